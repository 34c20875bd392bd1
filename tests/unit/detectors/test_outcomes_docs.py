"""The guide names every reason with its default, and its figures are those of the code."""

from __future__ import annotations

from detectors.outcomes import REASONS
from detectors.satisfaction import Estimator
from tests.support.common import REPOSITORY


def test_every_reason_is_in_the_guide_with_its_default() -> None:
    lines = (REPOSITORY / "docs" / "outcomes.md").read_text("utf-8").splitlines()
    for reason in REASONS:
        rows = [line for line in lines if line.startswith(f"| `{reason.code}` |")]
        defined, *measured = rows
        assert f"| {reason.threshold:g} {reason.unit} |" in defined
        assert len(measured) == 2  # sessions, interactions
        assert all(f"| {reason.severity} |" in row for row in measured)


def test_the_card_says_what_the_shipped_estimator_was_fitted_to() -> None:
    card = (REPOSITORY / "docs" / "satisfaction.md").read_text("utf-8")
    sources = Estimator.load().trained_on.values()
    rows = sum(source["rows"] for source in sources)
    low = sum(source["dissatisfied"] for source in sources)
    assert f"{rows:,} interactions" in card
    assert f"Base rate: {low / rows:.0%}".replace("%", " %") in card
