"""How far spans are understood: which attribute became which field, which only stay attributes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ingest.core.errors import Rejected
from ingest.core.events import Kind
from ingest.otlp import conventions
from ingest.otlp.attributes import Span, gather, told
from ingest.otlp.translate import event_of

_NUMBER: Final = re.compile(r"\.\d+(?=\.|$)")

KEPT: Final = "attribute"
"""Field of what no field takes."""


class Use(NamedTuple):
    """One attribute on spans of one kind.

    Attributes
    ----------
    dialect
        Whose word it is; empty when nobody's that we know.
    attribute
        Its name; of flattened lists with ``N`` for the numbers.
    field
        What it was understood as, `KEPT` when it only stays an attribute.
    """

    kind: Kind
    dialect: str
    attribute: str
    field: str


@dataclass(slots=True)
class Coverage:
    """Counts over spans.

    Attributes
    ----------
    kinds
        Spans by kind and by the attribute that told it, else the dialect of its name; None when
        nothing did and a span is taken for work of its service.
    uses
        Spans by attribute and what became of it.
    rejected
        Spans that are no events, by code.
    """

    kinds: Counter[tuple[Kind, str | None]] = field(default_factory=Counter)
    uses: Counter[Use] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)

    def add(self, items: Iterable[Span | Rejected]) -> None:
        """Count spans."""
        for item in items:
            try:
                if isinstance(item, Rejected):
                    raise item
                event_of(item)  # refuses what is no event
                self._add(item)
            except Rejected as rejected:
                self.rejected[str(rejected.code)] += 1

    def _add(self, span: Span) -> None:
        kind, by, dialect = told(span)
        self.kinds[kind, by or dialect or None] += 1
        table = conventions.table(kind)
        found = gather(span.attributes, kind)
        seen: set[Use] = set()
        for used, (_, name) in found.sources.items():
            kept_as = conventions.KEPT_AS.get(used)
            seen.add(Use(kind, table[name].dialect, name, used if kept_as is None else KEPT))
        for name in found.flat:
            seen.add(Use(kind, *_flattened(name)))
        for name in found.rest:
            if name == by:
                seen.add(Use(kind, dialect, name, "kind"))
            else:
                whose = table[name].dialect if name in table else ""
                seen.add(Use(kind, whose, _NUMBER.sub(".N", name), KEPT))
        self.uses.update(seen)


def _flattened(name: str) -> tuple[str, str, str]:
    dialect = "openllmetry" if name.startswith(("gen_ai.", "llm.request.")) else "openinference"
    if ".tools." in name or ".functions." in name:
        means = "tools"
    else:
        means = "output" if ".output_" in name or ".completion." in name else "input"
    return dialect, _NUMBER.sub(".N", name), means
