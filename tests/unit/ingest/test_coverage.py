"""What is understood of spans, counted."""

from __future__ import annotations

from collections import Counter

from ingest.otlp.attributes import Span
from ingest.otlp.explain import KEPT, Coverage, Use
from ingest.replay import otel
from ingest.replay.files import records
from tests.support.common import data_file


def test_every_recorded_span_is_understood_by_kind() -> None:
    coverage = Coverage()
    for record in records(data_file("any_agent_otel_traces.jsonl.gz")):
        coverage.add(otel.spans_of(record))
    assert coverage.rejected == Counter()
    kinds: Counter[str] = Counter()
    for (kind, _), count in coverage.kinds.items():
        kinds[kind] += count
    assert kinds == {"llm_call": 353, "tool_call": 255, "interaction": 129, "span": 36}
    # Eight roots say nothing of what they are: the agent is below them.
    assert {k: n for k, n in coverage.kinds.items() if k[1] is None} == {("span", None): 8}
    tokens = {use: n for use, n in coverage.uses.items() if use.field == "input_tokens"}
    assert tokens == {
        Use("llm_call", "gen_ai", "gen_ai.usage.input_tokens", "input_tokens"): 308,
        Use("llm_call", "openinference", "llm.token_count.prompt", "input_tokens"): 45,
        Use("interaction", "openinference", "llm.token_count.prompt", "input_tokens"): 2,
    }


def test_of_two_attributes_for_a_field_one_is_only_kept() -> None:
    coverage = Coverage()
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.response.model": "m-2",
        "gen_ai.system": "lab",
        "llm.input_messages.3.message.content": "hello",
        "mine.7.x": 1,
    }
    span = Span(
        trace_id="a" * 32,
        span_id="b" * 16,
        parent_id=None,
        name="s",
        start_ns=1,
        end_ns=2,
        attributes=attributes,
    )
    coverage.add([span, span])
    assert coverage.kinds == {("llm_call", "gen_ai.operation.name"): 2}
    assert coverage.uses == {
        Use("llm_call", "gen_ai", "gen_ai.operation.name", "kind"): 2,
        Use("llm_call", "gen_ai", "gen_ai.response.model", "model"): 2,
        Use("llm_call", "gen_ai", "gen_ai.request.model", KEPT): 2,
        Use("llm_call", "gen_ai, deprecated", "gen_ai.system", KEPT): 2,
        Use("llm_call", "openinference", "llm.input_messages.N.message.content", "input"): 2,
        Use("llm_call", "", "mine.N.x", KEPT): 2,
    }
