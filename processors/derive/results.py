"""What became of each interaction and session: the one meaning of success, cost and satisfaction.

Pure functions of the events of whole traces and of the evaluations of what they did. Whoever wants
to know whether an interaction failed reads the rows made here.
"""

from __future__ import annotations

from typing import Final

import polars as pl

from detectors.failures.fingerprint import fingerprint
from processors.derive import judging, scopes, traces
from processors.derive.judging import ResultsConfig

EPOCH: Final = 3
"""Rises when rules change, so that new results replace old ones."""

CELL_NS: Final = 10 * 10**9
WORDS: Final = 4_000
"""Characters kept of a request and of an answer."""

_CALLS: Final = ("llm_call", "tool_call", "retrieval", "decision", "handoff")
_TOOLS: Final = ("tool_call", "retrieval")
NANO: Final = 1e9

OWN_MS: Final = "(duration_ms - least(ifNull(waiting_ms, 0), duration_ms))"
"""SQL of how long an interaction took without waiting for a person: the agent's own time."""


def interaction_results(
    events: pl.DataFrame,
    evaluations: pl.DataFrame,
    config: ResultsConfig | None = None,
    given_up_before: int = 0,
    before: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Rows of ``interaction_results`` for whole traces.

    Parameters
    ----------
    events
        All stored events of the traces, as `result_store` reads and `owned` names them; those that
        lost a collision have ``counted`` false.
    evaluations
        Evaluations of their `targets`, as `current` makes them.
    config
        How they are judged.
    given_up_before
        Event time, ns: an interaction without an end whose last event is older by the inactivity
        is unfinished. 0 leaves all of them open.
    before
        As `judging.as_before` makes it, of traces with ``words_gone``: without words nothing new
        can be said of them, so what was judged before stands.

    Returns
    -------
    polars.DataFrame
        For each trace, and each scope that does not keep its id, one row per cell that holds events
        of the trace, and per further interaction one; ``live`` is 1 on the row that counts.
    """
    config = config or ResultsConfig()
    seen = _seen(events, evaluations)
    places = _places(events, seen)
    counted = events.filter("counted")
    if counted.is_empty():
        return _placed(places.with_columns(live=pl.lit(0, pl.UInt8)), config.rules_version)
    # A web server or a queue around an agent is context; without an agent it is nothing to judge.
    work = traces.resolve(counted).filter((pl.col("kind") != "span").any().over("interaction_id"))
    if work.is_empty():
        return _placed(places.with_columns(live=pl.lit(0, pl.UInt8)), config.rules_version)
    found = _waited(_settled(_summed(work), config, given_up_before), work)
    # Its id without the scope that the id may bear.
    within = pl.col("trace").str.len_chars()
    given = pl.concat_str("whole", pl.col("interaction_id").str.slice(within))
    found = found.with_columns(given=given)
    over = found.filter(pl.col("state") != "open")["interaction_id"]
    ended = work.filter(pl.col("interaction_id").is_in(over.implode()))
    wordless = pl.col("words_gone").any().over("interaction_id")
    structure = judging.of_interactions(ended.filter(~wordless), config)
    if before is not None:
        gone = ended.filter(wordless).select("interaction_id").unique()
        structure = pl.concat([structure, before.join(gone, on="interaction_id", how="semi")])
    found = found.join(structure, on="interaction_id", how="left").join(
        _verdicts(evaluations, found, config), on="interaction_id", how="left"
    )
    return _placed(_rows(_judged(found), places), config.rules_version)


def owned(events: pl.DataFrame) -> pl.DataFrame:
    """Events of whole traces with ``trace`` as it is named in their scope, and as ``whole``."""
    bound = (events["scope"] != "").any()
    return events.with_columns(
        scopes.of_traces().alias("trace") if bound else "trace", whole="trace"
    )


def targets(events: pl.DataFrame) -> pl.DataFrame:
    """All that evaluations may name of traces: ``whole`` and ``target``, each pair once."""
    spans = events.filter(pl.col("kind") == "interaction")
    return pl.concat(
        part
        for name in _namings(events)
        for part in (
            events.select("whole", target=name).unique(),
            spans.select("whole", target=traces.further(name, "event_id")),
        )
    ).unique()


def _namings(events: pl.DataFrame) -> list[str]:
    """Columns that name traces: apart from their own ids those within scopes, where any differ."""
    return ["whole", "trace"] if (events["whole"] != events["trace"]).any() else ["whole"]


def current(evaluations: pl.DataFrame) -> pl.DataFrame:
    """Per target, kind, name, user and scope the evaluation that counts: the latest with a value.

    Parameters
    ----------
    evaluations
        Distinct rows of ``evaluations`` with ``ns`` and ``counted``, false for those that lost a
        collision.

    Returns
    -------
    polars.DataFrame
        ``target``, ``kind``, ``name``, ``user_id``, ``scope``, ``ns``, ``event_id``, ``value``,
        ``reason``, and ``n``, the evaluations seen of that target; of a target whose evaluations
        all lost a collision one row without a kind.
    """
    known = pl.col("value").is_not_null()
    counts = evaluations.group_by("target").agg(n=pl.len().cast(pl.UInt64))
    latest = (
        evaluations.filter("counted")
        .sort(pl.struct(known, "ns", "event_id"))
        .group_by("target", "kind", "name", "user_id", "scope", maintain_order=True)
        .last()
        .drop("counted")
    )
    return counts.join(latest, on="target", how="left")


def _seen(events: pl.DataFrame, evaluations: pl.DataFrame) -> pl.DataFrame:
    """Per trace and cell the events read, and per trace the version of what is made of them.

    An event that lost a collision counts twice, as in windows: then a version only ever grows.
    """
    weight = pl.when("counted").then(1).otherwise(2)
    evaluated = (
        targets(events)
        .join(evaluations.select("target", "n").unique("target"), on="target")
        .group_by("whole")
        .agg(evaluated=pl.col("n").sum())
    )
    return (
        events.group_by("whole", cell=pl.col("ns") // CELL_NS * 10)
        .agg(seen=weight.sum().cast(pl.UInt32))
        .with_columns(made_from=pl.col("seen").sum().over("whole").cast(pl.UInt64))
        .join(evaluated, on="whole", how="left")
        .with_columns(made_from=2 * (pl.col("made_from") + pl.col("evaluated").fill_null(0)))
        .drop("evaluated")
    )


def _summed(work: pl.DataFrame) -> pl.DataFrame:
    """One row per interaction with the sums of its events and what its closing events say."""
    c, kind = pl.col, pl.col("kind")
    once = ~c("repeats")
    calls_model, calls_tool = once & (kind == "llm_call"), once & kind.is_in(_TOOLS)
    # A closing event may carry totals of what its calls spent.
    spends = once & ~kind.is_in(["interaction", "span"])
    failed = c("status") == "error"
    # What goes wrong around an agent, in a web server or a database, is not its failure.
    failed_work = failed & (kind != "span")
    fails = failed_work & once & ~c("closes")
    price = (c("cost_usd") * NANO).round().cast(pl.Int128)
    has_tokens = c("input_tokens").is_not_null() | c("output_tokens").is_not_null()
    said = kind.is_in(["user_message", "agent_message"]) & (c("content") != "")
    # Where no call of a model says what it used, what agents say of all of them stands for it.
    counts = pl.when((calls_model & (has_tokens | c("cost_usd").is_not_null())).any())
    uses = calls_model, c("sums")

    def known(name: str) -> pl.Expr:
        of_calls, of_sums = (c(name).filter(which & c(name).is_not_null()) for which in uses)
        summed = pl.when(of_sums.len() > 0).then(of_sums.sum())
        own = pl.when(of_calls.len() > 0).then(of_calls.sum())
        return counts.then(own).otherwise(summed).alias(name)

    def spent(calls: pl.Expr, sums: pl.Expr) -> pl.Expr:
        return calls + counts.then(0).otherwise(sums)

    def first(name: str, which: pl.Expr) -> pl.Expr:
        return c(name).filter(which & (c(name) != "")).first()

    def last(name: str, which: pl.Expr) -> pl.Expr:
        return c(name).filter(which).last()

    ends_badly = (last("by_parts", c("closes")) & _ends_badly(failed, once)).fill_null(value=False)
    # One that only its service names is called as the first below that has a name.
    named = (kind == "interaction") & ~c("of_service") & (c("agent") != "")
    below = c("agent").filter(named & ~c("closes"))
    begun = [c(by).filter(named & ~c("closes")) for by in ("start_ns", "ns")]
    agent = pl.coalesce(
        first("agent", c("closes") & ~c("of_service")),
        pl.when(c("closes").any()).then(below.sort_by(*begun, descending=[False, True]).first()),
        first("agent", c("closes")),
        c("agent").first(),
    )
    return work.group_by("interaction_id", maintain_order=True).agg(
        c("trace", "whole").first(),
        *(known(name) for name in ("input_tokens", "output_tokens", "cached_tokens")),
        closed=c("closes").any(),
        environment=pl.coalesce(first("environment", c("closes")), c("environment").first()),
        agent=agent,
        agent_version=pl.coalesce(
            first("agent_version", c("closes")), first("agent_version", c("agent") == agent)
        ),
        session_id=pl.coalesce(_least("session_id", c("closes")), _least("session_id")),
        user_id=pl.coalesce(_least("user_id", c("closes")), _least("user_id")),
        first_ns=c("start_ns").min(),
        last_ns=c("ns").max(),
        closing_start=c("start_ns").filter(c("closes")).min(),
        closing_timed=c("duration_ms").filter(c("closes")).is_not_null().all(),
        skewed=(c("skewed") & c("closes")).any(),
        closing_end=c("ns").filter(c("closes")).max(),
        status=pl.when(ends_badly).then(pl.lit("error")).otherwise(last("status", c("closes"))),
        ending=pl.coalesce(
            pl.when(~ends_badly).then(last("ending", c("closes") & (c("ending") != ""))),
            _interrupted(),
        ),
        closing_error=last("error_type", c("closes")),
        closing_template=last("error_template", c("closes")),
        inner_error=last("error_type", fails),
        inner_tool=pl.when(last("kind", fails).is_in(_TOOLS)).then(last("name", fails)),
        inner_template=last("error_template", fails),
        errors=failed_work.any(),
        words_gone=c("words_gone").any(),
        time_to_first_token_ms=c("time_to_first_token_ms")
        .filter(calls_model & c("time_to_first_token_ms").is_not_null())
        .first(),
        events=pl.len(),
        steps=(once & kind.is_in(_CALLS)).sum(),
        llm_calls=calls_model.sum(),
        llm_errors=(calls_model & failed).sum(),
        tool_calls=calls_tool.sum(),
        tool_errors=(calls_tool & failed).sum(),
        handoffs=(once & (kind == "handoff")).sum(),
        human_inputs=(once & (kind == "human_input")).sum(),
        priced=spent(*((which & c("cost_usd").is_not_null()).sum() for which in (spends, uses[1]))),
        unpriced=spent(*((which & has_tokens & c("cost_usd").is_null()).sum() for which in uses)),
        cost=spent(*(price.filter(which).sum() for which in (spends, uses[1]))),
        models=c("model").filter(calls_model & (c("model") != "")).unique().sort(),
        tools=c("name")
        .filter(named := calls_tool & (c("name") != ""))
        .sort_by(*(c(by).filter(named) for by in ("start_ns", "ns", "event_id")))
        .unique(maintain_order=True),
        own_request=c("content").filter(said & (kind == "user_message") & ~c("of_call")).first(),
        any_request=c("content").filter(said & (kind == "user_message")).first(),
        own_answer=c("content").filter(said & (kind == "agent_message") & ~c("of_call")).last(),
        any_answer=c("content").filter(said & (kind == "agent_message")).last(),
    )


def _ends_badly(failed: pl.Expr, once: pl.Expr) -> pl.Expr:
    """Whether the last agent or call below one that is always ok failed."""
    c, kind = pl.col, pl.col("kind")
    work = once & ~c("closes")
    fails = work & failed & kind.is_in([*_CALLS, "interaction"])
    works = work & ~failed & kind.is_in(["llm_call", *_TOOLS])
    last_failed, last_done = (c("ns").filter(which).max() for which in (fails, works))
    return (last_failed >= last_done.fill_null(0)).fill_null(value=False)


def _interrupted() -> pl.Expr:
    """Whether the last thing done was to wait for a person, whatever the spans around it say."""
    c = pl.col
    waits = c("ns").filter(c("ending") == "interrupted").max()
    works = c("start_ns").filter(c("kind").is_in(["llm_call", *_TOOLS])).max()
    return pl.when(waits.is_not_null() & (works.fill_null(0) <= waits)).then(pl.lit("interrupted"))


def _least(name: str, which: pl.Expr | None = None) -> pl.Expr:
    given = pl.col(name) != ""
    return pl.col(name).filter(given if which is None else given & which).min()


def _verdicts(
    evaluations: pl.DataFrame, found: pl.DataFrame, config: ResultsConfig
) -> pl.DataFrame:
    """Per interaction its outcome, trusted score and feedback, of those that may speak of it."""
    c = pl.col
    of = "interaction_id", "environment", "agent"
    judged = [found.select(*of, target="interaction_id")]
    # Whoever sent it may not know that its id is another's as well.
    judged += [found.filter(c("given") != c("interaction_id")).select(*of, target="given")]
    heard = scopes.heard(pl.concat(judged), evaluations, "interaction_id")
    return weighed(heard, "interaction_id", config)


def weighed(found: pl.DataFrame, key: str, config: ResultsConfig) -> pl.DataFrame:
    """Evaluations of one thing added up; what speaks worst of it decides."""
    c = pl.col
    known = c("value").is_not_null()
    outcome = (c("kind") == "outcome") & known
    score = (c("kind") == "score") & known & c("name").is_in(list(config.trusted_scores))
    feedback = (c("kind") == "feedback") & known
    worst = found.sort(pl.struct("value", "reason"))
    return worst.group_by(key).agg(
        outcome=c("value").filter(outcome).min(),
        outcome_reason=c("reason").filter(outcome).first(),
        score=c("value").filter(score).min(),
        score_reason=c("reason").filter(score).first(),
        rating=(c("value").filter(feedback) * NANO).round().cast(pl.Int64).sum(),
        ratings=feedback.sum(),
    )


def _settled(found: pl.DataFrame, config: ResultsConfig, given_up_before: int) -> pl.DataFrame:
    """Whether each interaction is over, and when it was."""
    c, when = pl.col, pl.when
    quiet_since = c("last_ns") + int(config.inactivity_s * NANO)
    return found.with_columns(
        state=when("closed")
        .then(pl.lit("ended"))
        .when(quiet_since <= given_up_before)
        .then(pl.lit("unfinished"))
        .otherwise(pl.lit("open")),
        end_ns=when("closed").then("closing_end").otherwise("last_ns"),
        start_ns=when(c("closed") & c("closing_timed")).then("closing_start").otherwise("first_ns"),
        status=c("status").fill_null(""),
    )


def _waited(found: pl.DataFrame, work: pl.DataFrame) -> pl.DataFrame:
    """With ``waiting_ms``, how long of each interaction a person was waited for, moments once."""
    c = pl.col
    bounds = found.select("interaction_id", opens="start_ns", over="end_ns")
    waits = (
        work.filter(c("kind") == "human_input")
        .join(bounds, on="interaction_id")
        .select(
            "interaction_id",
            since=pl.max_horizontal("start_ns", "opens"),
            until=pl.min_horizontal("ns", "over"),
        )
        .sort("interaction_id", "since")
        .with_columns(counted=c("until").cum_max().shift(1).over("interaction_id"))
    )
    waited = (c("until") - pl.max_horizontal("since", "counted")).clip(lower_bound=0)
    added = waits.group_by("interaction_id").agg(waiting_ms=(waited.sum() / 1e6).round(6))
    return found.join(added, on="interaction_id", how="left")


def _judged(found: pl.DataFrame) -> pl.DataFrame:
    """Success, from what is trusted most: outcome, score, structure, status."""
    c, when = pl.col, pl.when
    gone_wrong = (
        when(c("state") == "ended")
        .then(c("status") == "error")
        .when(c("state") == "unfinished")
        .then("errors")
    )
    by_status = (
        when(c("ending").fill_null("") != "")
        .then(None)
        .when(gone_wrong)
        .then(0)
        .when((c("state") == "ended") & (c("status") == "ok"))
        .then(1)
    )
    # Who waits for a person has not failed yet. An error status names its cause itself.
    by_structure = (
        c("fails").fill_null(value=False)
        & (c("ending").fill_null("") == "")
        & (by_status.fill_null(1) != 0)
    )
    found = found.with_columns(gone_wrong=gone_wrong.fill_null(False)).with_columns(
        by_structure=by_structure,
        success=pl.coalesce(
            (c("outcome") >= 0.5).cast(pl.UInt8),
            (c("score") >= 0.5).cast(pl.UInt8),
            when(by_structure).then(0).otherwise(by_status).cast(pl.UInt8),
        ),
        success_source=when(c("outcome").is_not_null())
        .then(pl.lit("outcome"))
        .when(c("score").is_not_null())
        .then(pl.lit("score"))
        .when(by_structure)
        .then(pl.lit("structure"))
        .when(by_status.is_not_null())
        .then(pl.lit("status"))
        .otherwise(pl.lit("")),
    )
    return _explained(found)


def _explained(found: pl.DataFrame) -> pl.DataFrame:
    """Why it failed: the outcome's reason, that of the status, of the structure, the last error."""
    c, when = pl.col, pl.when

    def text(name: str) -> pl.Expr:
        return when(c(name) != "").then(name)

    by_status = when("gone_wrong").then(
        pl.coalesce(text("closing_error"), text("inner_error"), pl.lit("error"))
    )
    by_structure = when("by_structure").then(c("codes").list.first())
    judged = (
        when(c("outcome") < 0.5)
        .then(pl.coalesce(text("outcome_reason"), by_status, by_structure, pl.lit("outcome")))
        .when(c("outcome").is_null() & (c("score") < 0.5))
        .then(pl.coalesce(text("score_reason"), by_status, by_structure, pl.lit("score")))
    )
    failed = (c("success") == 0).fill_null(False)
    found = found.with_columns(
        failure_reason=when(failed)
        .then(pl.coalesce(judged, by_status, by_structure))
        .otherwise(pl.lit("")),
        failure_tool=when(failed).then(c("inner_tool").fill_null("")).otherwise(pl.lit("")),
        failure_template=when(failed)
        .then(pl.coalesce(text("closing_template"), text("inner_template"), pl.lit("")))
        .otherwise(pl.lit("")),
        reasons=pl.concat_list(pl.concat_list(judged, by_status), c("codes").fill_null([]))
        .list.drop_nulls()
        .list.unique(maintain_order=True),
    )
    kinds = found.filter(failed).select(_FAILURE).unique()
    prints = [fingerprint(*row) for row in kinds.iter_rows()]
    return found.join(
        kinds.with_columns(fingerprint=pl.Series(prints, dtype=pl.String)),
        on=_FAILURE,
        how="left",
    ).with_columns(fingerprint=when(failed).then("fingerprint").otherwise(pl.lit("")))


_FAILURE: Final = ["failure_reason", "failure_tool", "failure_template"]


def _places(events: pl.DataFrame, seen: pl.DataFrame) -> pl.DataFrame:
    """Where the interactions of each trace count, or where an earlier computation counted them."""
    c = pl.col
    # Whose a row is: of one that no scope has any more that of nobody.
    plain = pl.when(c("trace") == c("whole")).then("scope").otherwise(pl.lit("")).alias("scope")
    first = seen.select("whole", pl.lit("").alias("scope"), interaction_id="whole").unique()
    if (events["scope"] != "").any():
        of_trace = (
            events.select("whole", plain if name == "whole" else "scope", interaction_id=name)
            for name in _namings(events)
        )
        first = pl.concat(of_trace).group_by("whole", "interaction_id").agg(c("scope").max())
    # An agent span that was called may have spoken for itself before its caller was known.
    spans = events.filter((c("kind") == "interaction") & (c("parent_id") != ""))
    called = pl.concat(
        spans.select(
            "whole",
            plain if name == "whole" else "scope",
            cell=c("ns") // CELL_NS * 10,
            interaction_id=traces.further(name, "event_id"),
        )
        for name in _namings(events)
    )
    called = (
        called.group_by("whole", "cell", "interaction_id")
        .agg(c("scope").max())
        .join(seen.select("whole", "made_from").unique("whole"), on="whole")
        .with_columns(seen=pl.lit(0, pl.UInt32))
    )
    # All that was seen in a cell stands in one of its rows.
    counts = pl.when(c("interaction_id") == c("whole")).then("seen").otherwise(pl.lit(0, pl.UInt32))
    columns = ["whole", "cell", "interaction_id", "scope", "seen", "made_from"]
    placed = seen.join(first, on="whole").with_columns(seen=counts)
    return pl.concat([placed.select(columns), called.select(columns)])


def _rows(found: pl.DataFrame, places: pl.DataFrame) -> pl.DataFrame:
    """Each interaction at the place where it counts."""
    c = pl.col
    unfinished = found.group_by("whole").agg(unfinished=(c("state") == "unfinished").any())
    home = c("end_ns") // CELL_NS * 10
    return (
        places.join(unfinished, on="whole", how="left")
        .with_columns(made_from=c("made_from") + c("unfinished").fill_null(False))
        .join(
            found.drop("trace", "whole").with_columns(cell=home, live=pl.lit(1, pl.UInt8)),
            on=["cell", "interaction_id"],
            how="left",
        )
    )


def _placed(rows: pl.DataFrame, rules_version: str) -> pl.DataFrame:
    """The columns of the table; a row that does not count holds no more than its place."""
    c = pl.col
    place = rows.select(
        c("cell").cast(pl.UInt32),
        "interaction_id",
        (c("made_from") + (EPOCH << 40)).cast(pl.UInt64).alias("version"),
        c("live").fill_null(0).cast(pl.UInt8),
        "seen",
        "scope",
        trace_id="whole",
    )
    if "state" not in rows.columns:
        return place
    start, end = c("start_ns"), c("end_ns")
    duration = (end - start) / 1e6
    timed = (c("state") == "ended") & ~c("skewed")
    whole = pl.when((c("priced") > 0) & (c("unpriced") == 0))
    return pl.concat(
        [
            place,
            rows.select(
                *(c(name).fill_null("") for name in _TEXTS),
                *(c(name).fill_null(0).cast(pl.UInt32) for name in _COUNTS),
                *(c(name).fill_null([]) for name in ("models", "tools", "reasons", "notes")),
                *(c(name) for name in judging.ESTIMATES),
                *(c(name).cast(pl.UInt64) for name in ("input_tokens", "output_tokens")),
                c("cached_tokens").cast(pl.UInt64),
                c("time_to_first_token_ms"),
                c("success"),
                start=start.cast(pl.Datetime("ns", "UTC")),
                end=end.cast(pl.Datetime("ns", "UTC")),
                session_id=pl.coalesce("session_id", "given"),
                duration_ms=pl.when(timed).then(duration.round(6)),
                waiting_ms=pl.when(timed).then(c("waiting_ms").fill_null(0.0)),
                cost_usd=whole.then((c("cost") / NANO).cast(pl.Float64)),
                satisfaction=pl.when(c("ratings") > 0).then(c("rating") / c("ratings") / NANO),
                words_gone=c("words_gone").fill_null(value=False).cast(pl.UInt8),
                satisfaction_n=c("ratings").fill_null(0).cast(pl.UInt32),
                request=pl.coalesce("own_request", "any_request").fill_null("").str.slice(0, WORDS),
                # What a model said in a run that failed has not reached the user.
                answer=pl.coalesce("own_answer", pl.when(c("status") != "error").then("any_answer"))
                .fill_null("")
                .str.slice(0, WORDS),
                rules_version=pl.lit(rules_version),
            ),
        ],
        how="horizontal",
    )


_TEXTS: Final = (
    "environment", "agent", "agent_version", "user_id", "state", "status", "success_source",
    "failure_reason", "failure_tool", "failure_template", "fingerprint", "language",
)  # fmt: skip
_COUNTS: Final = (
    "events", "steps", "llm_calls", "llm_errors", "tool_calls", "tool_errors", "handoffs",
    "human_inputs", "priced", "unpriced",
)  # fmt: skip
