"""Recorded runs of a model before and after fine-tuning, stored and compared by task."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from ingest.core.events import Event
from ingest.replay import Options, load_info, read
from processors import compare
from processors.stations.versions import MEASURES
from tests.support.common import data_file

TASK = "tau2.task_id"


def replayed(pipeline, domain):
    """Versions of a domain's agent, the base model first, after all runs were stored."""
    path = data_file(f"tau2_{domain}_gpt41_vs_sft_simulations.jsonl.gz")
    infos = load_info(data_file("tau2_run_info.jsonl.gz"))
    events = [e for e in read(path, Options(infos=infos)) if isinstance(e, Event)]
    for cut in range(0, len(events), 2_000):
        pipeline.deliver(events[cut : cut + 2_000])
    pipeline.recompute()
    versions = pipeline.store.query("SELECT DISTINCT agent, agent_version AS v FROM sessions")
    (agent,) = versions["agent"].unique()
    return agent, *sorted(versions["v"], key=lambda v: "sft" in v)


def verdicts(found):
    return {m["measure"]: m["verdict"] for m in found["measures"]}


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("retail", {"success": "undecided", "duration_ms": "worse"}),
        ("telecom", {"success": "better"}),
        ("telecom_solo", {"success": "better"}),
    ],
)
def test_what_fine_tuning_changed(pipeline, domain, expected):
    agent, base, tuned = replayed(pipeline, domain)
    found = compare.compare_tasks(pipeline.store, "production", agent, base, tuned, TASK)
    assert found["tasks"] == 40
    assert expected.items() <= verdicts(found).items()
    worse = {m for m, verdict in verdicts(found).items() if verdict == "worse"}
    assert worse == {m for m, verdict in expected.items() if verdict == "worse"}
    if domain == "retail":
        (duration,) = [m for m in found["measures"] if m["measure"] == "duration_ms"]
        assert duration["low"] > 0.1


def test_shuffled_pairs_are_quiet(pipeline):
    """Which version did a task is drawn anew: then none is better or worse, but by chance."""
    agent, base, tuned = replayed(pipeline, "retail")
    rows = compare.task_sessions(pipeline.store, "production", agent, base, tuned, TASK)
    rows = rows.sort("task", "agent_version")
    rng, alarms = np.random.default_rng(1), dict.fromkeys((m.name for m in MEASURES), 0)
    tasks = rows["task"].unique().sort()
    for _ in range(100):
        turned = set(tasks.filter(pl.Series(rng.random(len(tasks)) < 0.5)))
        other = pl.when(pl.col("agent_version") == base).then(pl.lit(tuned)).otherwise(pl.lit(base))
        mixed = rows.with_columns(
            agent_version=pl.when(pl.col("task").is_in(turned)).then(other).otherwise("agent_version")
        )  # fmt: skip
        found = verdicts(compare.compare_pairs(mixed, ("production", agent), base, tuned))
        for measure, verdict in found.items():
            alarms[measure] += verdict in ("better", "worse")
    assert max(alarms.values()) <= 10, alarms  # 5 are expected at most; 11 have a chance of 1 %
