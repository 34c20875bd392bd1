"""Settings of results become what the derivation works with."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ingest.core.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from detectors.outcomes import AgentOutcomes
    from infra.settings.sections import ReasonsSettings, ResultsSettings
    from processors.derive.judging import ResultsConfig


def results_config(section: ResultsSettings) -> ResultsConfig:
    """Switches, thresholds and the estimator, read.

    Raises
    ------
    UsageError
        When a reason does not exist, or a file does not hold what it should.
    """
    from detectors.outcomes import OutcomeConfig
    from detectors.satisfaction import Estimator
    from processors.derive.judging import ResultsConfig, shipped_estimator

    outcomes, estimator = None, None
    try:
        if section.outcomes:
            outcomes = OutcomeConfig(
                _of_agent(section.reasons),
                {
                    name: _of_agent(_over(section.reasons, own))
                    for name, own in section.agents.items()
                },
            )
        if section.satisfaction:
            path = section.satisfaction_model
            text = None if path is None else path.read_text("utf-8")
            estimator = shipped_estimator() if text is None else Estimator.load(text)
    except (ValueError, OSError) as error:
        raise UsageError(f"results: {error}") from None
    return ResultsConfig(section.inactivity_s, section.trusted_scores, outcomes, estimator)


def _over(common: ReasonsSettings, own: ReasonsSettings) -> ReasonsSettings:
    """The settings of all agents, with what an agent says itself."""
    given = {name: getattr(own, name) for name in own.model_fields_set}
    for name in ("thresholds", "severities"):
        given[name] = getattr(common, name) | getattr(own, name)
    told = {name: getattr(own.budget, name) for name in own.budget.model_fields_set}
    return common.model_copy(update=given | {"budget": common.budget.model_copy(update=told)})


def _of_agent(section: ReasonsSettings) -> AgentOutcomes:
    from detectors.outcomes import AgentOutcomes, Budget

    return AgentOutcomes(
        section.off,
        section.thresholds,
        section.severities,
        Budget(**section.budget.model_dump()),
        section.tools,
        {} if section.schemas is None else _schemas(section.schemas),
    )


def _schemas(path: Path) -> dict[str, dict[str, object]]:
    found = json.loads(path.read_text("utf-8"))
    if not isinstance(found, dict) or not all(isinstance(one, dict) for one in found.values()):
        raise ValueError(f"{path} must hold an object: a JSON Schema by tool")
    return found
