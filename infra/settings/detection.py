"""Settings of detection become what stations work with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.settings.sections import DetectionSettings
    from processors.stations.detection import DetectionConfig


def detection_config(section: DetectionSettings) -> DetectionConfig:
    """How eager detection is, of all agents and of those that have settings of their own."""
    from processors.stations.detection import AgentDetection, DetectionConfig

    common = section.model_dump(exclude={"agents"})
    agents = {name: AgentDetection(**own.model_dump()) for name, own in section.agents.items()}
    return DetectionConfig(**common, agents=agents)
