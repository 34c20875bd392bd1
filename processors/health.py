"""A worker's health: how far the sink and the recomputation have come, judged by progress.

`Health` samples every second what the event loop knows without asking anybody; threads of
`health.probes` judge the last sample against the clock. So a worker is found out whether its
ClickHouse hangs, its broker is silent, one of its loops is stuck, or the event loop itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from mode import Service

from ingest.core.health import probes
from ingest.core.health.sampler import PartitionPosition, Sampler
from ingest.core.health.verdict import Limits, Snapshot, StationHealth, Verdict, judge

_SAMPLE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class HealthConfig:
    """Where health is served, and when a lack of progress counts.

    ``port`` is None to serve nothing, ``host`` the address it listens on; ``marks_rest`` is how
    many seconds marks may wait on purpose.
    """

    port: int | None = None
    host: str = probes.LOOPBACK
    limits: Limits = field(default_factory=Limits)
    marks_rest: float = 30.0


class Health(Service):  # type: ignore[misc]
    """Samples progress in the event loop, for the probes to judge.

    Parameters
    ----------
    config
        Limits and port.
    places
        Where every partition stands, without waiting for anything.
    turned
        When each loop of the sink last went round; empty until it has joined its group.
    role
        Name of the process in its answers.
    stations
        How stations and the audit stand, without waiting for anything.
    """

    def __init__(
        self,
        config: HealthConfig,
        places: Callable[[], Iterable[PartitionPosition]],
        loop_last_seen: Mapping[str, float],
        stations: Callable[[], Iterable[StationHealth]],
        role: str = "worker",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._config = config
        self._places = places
        self._turned = loop_last_seen
        self._role = role
        self._stations = stations
        self._sampler = Sampler(config.marks_rest)
        self._facts = Snapshot(at=time.monotonic())

    def serve(self) -> None:
        """Answer probes from now on, where a port is configured.

        Raises
        ------
        UsageError
            The port is in use.
        """
        if self._config.port is not None:
            probes.serve(self._config.port, self._role, self.verdict, self._config.host)

    def verdict(self) -> Verdict:
        """Judge the last sample. From any thread."""
        return judge(self._facts, time.monotonic(), self._config.limits)

    @Service.task  # type: ignore[untyped-decorator]
    async def _sample(self) -> None:
        while not self.should_stop:
            if self._turned:
                now = time.monotonic()
                facts = self._sampler.sample(
                    self._places(), self._turned, now, time.time_ns() // 1_000_000
                )
                self._facts = replace(facts, stations=list(self._stations()))
            await self.sleep(_SAMPLE_S)
