"""prices: what a model costs, by which list, and how a cost comes about."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from infra.console import Json, emit, emit_json, print_table, say
from ingest.core.errors import UsageError

Tokens = Annotated[int | None, typer.Option(min=0, metavar="N", help="Tokens of this kind.")]

_MILLION = 1_000_000


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(prices)


def prices(
    model: Annotated[
        str, typer.Argument(help="The model as your agent or its telemetry names it.")
    ],
    provider: Annotated[
        str | None, typer.Option(help="The provider as telemetry names it (gen_ai.provider.name).")
    ] = None,
    input_tokens: Tokens = None,
    output_tokens: Tokens = None,
    cached_tokens: Tokens = None,
    cache_write_tokens: Tokens = None,
    cache_write_1h_tokens: Tokens = None,
    reasoning_tokens: Tokens = None,
    input_audio_tokens: Tokens = None,
    output_audio_tokens: Tokens = None,
    service: Annotated[
        str | None, typer.Option(help="batch, flex, priority or fast; without it the standard one.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="Day or time (ISO 8601) of the call.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Explain the price of a model: which list, of which date, by which name, and the arithmetic.

    Without tokens it shows the price of a million tokens in and a million out. Exit 1 when the
    model has no price.

    Examples: driftline prices gpt-4o --input-tokens 1000 --output-tokens 50
              driftline prices us.anthropic.claude-sonnet-4-20250514-v1:0 --provider aws.bedrock
              driftline prices claude-sonnet-4-5 --input-tokens 250000 --output-tokens 1 --json
    """
    from infra.settings import load
    from infra.settings.prices import install_prices
    from ingest.prices import TokenUsage, explain

    install_prices(load())
    usage = TokenUsage(
        input=input_tokens,
        output=output_tokens,
        cached=cached_tokens,
        cache_write=cache_write_tokens,
        cache_write_1h=cache_write_1h_tokens,
        reasoning=reasoning_tokens,
        input_audio=input_audio_tokens,
        output_audio=output_audio_tokens,
    )
    if not any(usage):
        usage = TokenUsage(input=_MILLION, output=_MILLION)
    said = explain(provider, model, usage, service=service, time_ns=_ns(at))
    if as_json:
        emit_json(said)
    else:
        _show(said)
    if said["cost_usd"] is None:
        raise typer.Exit(1)


def _show(said: dict[str, Any]) -> None:
    if said["list"] is None:
        names = " or ".join(said["own_names"])
        say(f"{said['model']} has no price; add it to prices.file as {names}")
        return
    listed = "/".join(filter(None, (said["listed_provider"], said["listed_model"])))
    emit(f"list: {said['list']}")
    emit(f"match: {said['model']} is {listed}, {said['service']} service")
    if said["above_tokens"]:
        emit(f"long context: rates above {said['above_tokens']} tokens of input")
    print_table(
        ("kind", "tokens", "USD per million", "USD", "price of"),
        [
            (line["kind"], line["tokens"], line["rate"], line["usd"], line["same_as"])
            for line in said["lines"]
        ],
    )
    if said["per_request_usd"]:
        emit(f"per request: {said['per_request_usd']:.12g} USD")
    if said["cost_usd"] is None:
        say("no cost: the list has no price for some of these tokens, or for this service")
    else:
        emit(f"cost: {said['cost_usd']:.12g} USD")


def _ns(at: str | None) -> int | None:
    if at is None:
        return None
    try:
        time = datetime.fromisoformat(at)
    except ValueError:
        raise UsageError(f"--at {at}: expected a day or time as 2026-01-31T12:00") from None
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()) * 10**9
