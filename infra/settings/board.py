"""Settings of the board."""

from __future__ import annotations

from pydantic import Field

from infra.settings.sections import Section


class BoardSettings(Section):
    """The local page with dashboards, incidents and conversations."""

    enabled: bool = Field(default=True, description="whether `driftline up` serves the board")
    port: int | None = Field(
        default=None,
        ge=1024,
        le=65535,
        description="port on 127.0.0.1; without it one that follows the port base",
    )
