"""What a message says: one line for a pager, some lines for a chat, an object for a program.

Names come from what agents send, so they are made inert for chats: control characters go, and
what a chat service reads as a mention or a link no longer is one.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from processors.notify.finding import Finding
from processors.notify.incidents import RESOLVED, UPDATE, Message

_BREAK: Final = "\u200b"  # zero width: visible to a parser, not to a reader
_LIVE: Final = re.compile(r"(@|<|\]\(|://|&|www\.|^[=+\-](?=\S))", re.IGNORECASE | re.MULTILINE)
_WORST: Final = ("page", "critical", "warning")
_SHOWN: Final = 10
_LONGEST: Final = 300


def inert(text: str, limit: int = _LONGEST) -> str:
    r"""Make text of unknown origin harmless in a chat or a mail, in one line.

    >>> inert("a\x1b[31mb <!channel> @all")
    'a[31mb <\u200b!channel> @\u200ball'
    """
    line = " ".join(text.split())
    kept = "".join(c for c in line if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn"))
    cut = kept if len(kept) <= limit else kept[: limit - 1] + "…"
    return _LIVE.sub(lambda m: m[1][0] + _BREAK + m[1][1:], cut)


def severity(findings: Sequence[Finding]) -> str:
    """The worst severity among findings."""
    given = {f.severity for f in findings}
    return next((s for s in _WORST if s in given), "warning")


def headline(message: Message) -> str:
    """What happened, in one line."""
    main = _main(message)
    title = inert(main.title) or f"{inert(main.agent)}: {inert(main.signal or main.kind)} changed"
    if main.environment and inert(main.environment) not in title:
        title += f" ({inert(main.environment)})"
    others = len(message.findings) - 1
    if others:
        title += f" and {others} more" if others > 1 else " and one more"
    if message.event == RESOLVED:
        return f"resolved: {title}{_lasted(message)}"
    return f"more of: {title}" if message.event == UPDATE else title


def lines(message: Message, board: str | None = None) -> str:
    """Some lines for a chat or a mail: what, since when, how sure, why, where to look."""
    main = _main(message)
    said = [
        _change(main),
        _hit(main),
        f"since {main.began:%Y-%m-%d %H:%M} UTC" if main.began else "",
        _sure(main),
        *(f"cause: {cause}" for cause in map(_cause, (main.causes or main.evidence)[:3]) if cause),
    ]
    if len(message.findings) > 1:
        agents = Counter(f.agent for f in message.findings)
        said.append("agents: " + ", ".join(inert(a, 60) for a, _ in agents.most_common(_SHOWN)))
    if main.examples:
        said.append("examples: " + ", ".join(inert(str(e), 60) for e in main.examples[:3]))
    if board:
        said.append(f"{board}/incident/{message.incident}")
    return "\n".join(filter(None, said))


def payload(message: Message, board: str | None = None) -> dict[str, Any]:
    """The same for a program: an object of JSON types; names are as they were sent."""
    findings = [msgspec.to_builtins(f) for f in message.findings]
    main = _main(message)
    return {
        "schema": 1,
        "event": message.event,
        "incident": message.incident,
        "sequence": message.seq,
        "at": _iso(message.at),
        "title": headline(message),
        "severity": severity(message.findings),
        "environment": main.environment,
        "agents": sorted({f.agent for f in message.findings}),
        "began": _iso(min((f.began for f in message.findings if f.began), default=None)),
        "ended": _iso(_ended(message)),
        "link": f"{board}/incident/{message.incident}" if board else None,
        "findings": findings,
    }


def _main(message: Message) -> Finding:
    """The finding that stands for the incident: the incident itself, else the worst that lasts."""
    return min(
        message.findings,
        key=lambda f: (
            not f.members,
            not f.active and message.event != RESOLVED,
            _WORST.index(f.severity) if f.severity in _WORST else len(_WORST),
            -(f.e_value or 0.0),
            f.finding_id,
        ),
    )


def _ended(message: Message) -> datetime | None:
    if any(f.active for f in message.findings):
        return None
    return max((f.ended for f in message.findings if f.ended), default=message.at)


def _lasted(message: Message) -> str:
    began = min((f.began for f in message.findings if f.began), default=None)
    ended = _ended(message)
    if began is None or ended is None or ended < began:
        return ""
    minutes = round((ended - began).total_seconds() / 60)
    return (
        f", lasted {minutes // 60} h {minutes % 60} min"
        if minutes >= 60
        else f", lasted {minutes} min"
    )


def _change(finding: Finding) -> str:
    if finding.baseline is None or finding.observed is None:
        return ""
    share = finding.unit in ("", "share", "percentunit", "ratio", "rate")
    before, after = (
        f"{v:.1%}" if share else f"{v:,.4g} {inert(finding.unit, 20)}"
        for v in (finding.baseline, finding.observed)
    )
    return f"{before} -> {after}"


def _hit(finding: Finding) -> str:
    counts = ((finding.users, "users"), (finding.sessions, "sessions"))
    return ", ".join(f"{n:,} {what}" for n, what in counts if n is not None)


def _sure(finding: Finding) -> str:
    parts = []
    if finding.low is not None and finding.high is not None:
        parts.append(f"95 % interval {finding.low:.3g} to {finding.high:.3g}")
    if finding.n is not None:
        parts.append(f"n = {finding.n}")
    if finding.e_value is not None:
        parts.append(f"e-value {finding.e_value:.2g}")
    return ", ".join(parts)


def _cause(cause: Any) -> str:
    if not isinstance(cause, dict):
        return inert(str(cause))
    if "attribute" in cause:
        lift = cause.get("lift")
        return f"{inert(str(cause['attribute']), 60)} {inert(str(cause.get('value')))}" + (
            f" (lift {lift:.1f})" if isinstance(lift, int | float) else ""
        )
    where = f" in {inert(str(cause['tool']), 60)}" if cause.get("tool") else ""
    what = f": {inert(str(cause['template']))}" if cause.get("template") else ""
    return f"{cause.get('since', '')}x {inert(str(cause.get('reason', '')), 60)}{where}{what}"


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
