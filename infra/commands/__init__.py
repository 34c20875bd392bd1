"""The commands of driftline by what they are about; `infra.cli` lists them.

Each module has ``register(app)``, which adds its commands. A command reads its arguments, builds
configs from `infra.settings`, calls one function of another package and prints what it returns;
what is heavy to import it imports itself, so that ``--help`` stays fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from processors.clickhouse import Store


def open_store(*, reader: bool = True) -> Store:
    """Tables that the settings name; ``reader`` can only query, where the engine is ours.

    Raises
    ------
    Unavailable
        No server is configured and no runtime runs.
    """
    from infra import wiring
    from infra.settings import load
    from processors.clickhouse import Store

    return Store(wiring.clickhouse(load(), reader=reader))
