"""A notifying process for tests, to be killed: `python -m tests.alerts.notifier`."""

from __future__ import annotations

import asyncio
import sys

from infra import wiring
from infra.settings import load
from infra.settings.notify import notify_config
from processors.clickhouse import Store
from processors.notify.service import Notifier


async def main() -> None:
    settings = load()
    notifier = Notifier(Store(wiring.clickhouse(settings)), notify_config(settings))
    await notifier.start()
    print("started", flush=True)
    await notifier.wait_until_stopped()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
