"""The setting of the price table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from infra.settings.sections import ExistingFile, Section

if TYPE_CHECKING:
    from infra.settings import Settings


class PriceSettings(Section):
    """What model calls cost whose instrumentation does not say."""

    file: ExistingFile | None = Field(
        default=None,
        description="JSON file of prices that win over the published list that comes with"
        " driftline (docs/prices.md); a model without a price has no cost",
    )


def install_prices(settings: Settings) -> None:
    """Make the configured table the one of this process.

    Raises
    ------
    UsageError
        When the file is no such table.
    """
    from ingest import prices

    prices.install(prices.load(settings.prices.file))
