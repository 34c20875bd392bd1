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
        description="JSON file of prices instead of the list prices that come with driftline, in"
        " the form of ingest/prices.json; a model without a price has no cost",
    )


def install_prices(settings: Settings) -> None:
    """Make the configured table the one of this process.

    Raises
    ------
    UsageError
        When the file is no such table.
    """
    from ingest import prices

    if settings.prices.file is not None:
        prices.install(prices.load(settings.prices.file))
