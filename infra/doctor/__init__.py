"""What can be wrong around driftline, and what to do about it.

`kafka` and `clickhouse` judge plain facts, which are asked for apart from that; `surroundings`
looks at our own settings, the price table and Grafana. Nothing is changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Area = Literal["kafka", "clickhouse", "clocks", "settings", "grafana", "notifiers", "prices"]


@dataclass(frozen=True, slots=True)
class Complaint:
    """Something that is not as it should be.

    Parameters
    ----------
    area
        Where.
    code
        Short name of it, stable, for programs.
    what
        What was found, in one sentence.
    do
        What to do about it.
    severity
        ``fault`` must be mended: something is lost, wrong or will stop. ``advice`` should be known.
    """

    area: Area
    code: str
    what: str
    do: str
    severity: Literal["fault", "advice"] = "fault"
