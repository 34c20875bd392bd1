"""The simulated agents, as data: what they do, how long it takes, what it costs, how it fails.

Latencies are lognormal with a Pareto tail, given by their median. Failure rates are those of an
ordinary day. In texts and error messages ``{id}`` is a hexadecimal id, ``{n}`` a number and
``{word}`` one of the agent's own words, so that no two messages need be equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool, the errors it returns on its own account, and how often it is used."""

    name: str
    median_ms: float
    error_rate: float
    errors: tuple[tuple[str, str], ...]
    kind: Literal["tool_call", "retrieval", "human_input"] = "tool_call"
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Model:
    """A model; prices in US dollars per million tokens, None when nobody knows them."""

    name: str
    median_ms: float
    input_price: float | None
    output_price: float | None


@dataclass(frozen=True, slots=True)
class Version:
    """A version of an agent, with what sets it apart."""

    name: str
    model: Model
    latency: float = 1.0
    tokens: float = 1.0


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent in production.

    Attributes
    ----------
    share
        Part of all user requests.
    versions
        Before and after the rollout.
    turns, steps
        Mean user requests per session, mean tool calls per request.
    input_tokens, output_tokens
        Medians per model call.
    recovery
        Chance that it answers well after a tool has failed for good.
    wrong, refusals, loops
        Chances per request of a wrong answer, of a refusal, of going round in circles.
    feedback
        Chance that a user rates a request.
    swing
        Day against night: load varies by this part of its mean.
    """

    name: str
    share: float
    versions: tuple[Version, Version]
    turns: float
    steps: float
    tools: tuple[Tool, ...]
    input_tokens: int
    output_tokens: int
    recovery: float
    wrong: float
    refusals: float
    loops: float
    feedback: float
    swing: float
    words: tuple[str, ...]
    requests: tuple[str, ...]
    answers: tuple[str, ...]


_LARGE = Model("gpt-4.1", 1100, 2.0, 8.0)
_SMALL = Model("gpt-4.1-mini", 550, 0.4, 1.6)
_LONG = Model("claude-sonnet-4", 1600, 3.0, 15.0)
_OWN = Model("house-model-32b", 900, None, None)

MODEL_ERRORS: Final = (
    ("rate_limit", "429 rate limit reached for {word} (request {id}), try again in {n} ms"),
    ("timeout", "model did not answer within {n} ms (request {id})"),
)

REFUSALS: Final = (
    "I'm sorry, but I can't help with that request.",
    "Unfortunately I am not able to assist with the {word}.",
    "I cannot do this. Please contact our support team about the {word}.",
)

COMPLAINTS: Final = (
    "That did not help. I asked about the {word}!",
    "No, this is wrong. Again: the {word}, please.",
    "You are not listening, it is about {word} {id}.",
)

COMMENTS: Final = {
    True: ("thanks, that worked", "quick and clear", "solved my {word}", ""),
    False: (
        "did not solve my {word}",
        "kept repeating itself",
        "wrong answer about the {word}",
        "",
    ),
}

AGENTS: Final = (
    Agent(
        name="support",
        share=0.4,
        versions=(Version("v14", _SMALL), Version("v15", _SMALL, latency=0.95)),
        turns=2.6,
        steps=1.3,
        tools=(
            Tool(
                "search_articles",
                180,
                0.006,
                (("timeout", "search timed out after {n} ms (query {id})"),),
                kind="retrieval",
            ),
            Tool(
                "get_account",
                90,
                0.03,
                (
                    ("not_found", "account {id} not found"),
                    ("http_502", "bad gateway from accounts-{n} (trace {id})"),
                ),
            ),
            Tool(
                "create_ticket",
                240,
                0.02,
                (
                    (
                        "validation",
                        "field priority of ticket {id} must be one of low, high, got {n}",
                    ),
                ),
            ),
        ),
        input_tokens=1900,
        output_tokens=140,
        recovery=0.45,
        wrong=0.05,
        refusals=0.008,
        loops=0.004,
        feedback=0.09,
        swing=0.6,
        words=("invoice", "password", "subscription", "router", "delivery", "refund"),
        requests=(
            "My {word} does not work, can you help?",
            "I need to change my {word}, the number is {id}.",
            "Why was I charged {n} twice for my {word}?",
            "How do I cancel the {word}?",
        ),
        answers=(
            "Your {word} is set up again; please try it now.",
            "I have opened ticket {id} for your {word}, you will hear from us within {n} minutes.",
            "The {word} was changed as you asked.",
        ),
    ),
    Agent(
        name="retail",
        share=0.3,
        versions=(Version("2025.07", _LARGE), Version("2025.08", _LARGE, latency=1.05)),
        turns=3.4,
        steps=1.7,
        tools=(
            Tool(
                "get_order",
                70,
                0.02,
                (
                    ("not_found", "order #W{n} not found"),
                    ("http_500", "internal error in orders, trace {id}"),
                ),
            ),
            Tool(
                "search_products",
                210,
                0.006,
                (("timeout", "catalogue did not answer within {n} ms (request {id})"),),
            ),
            Tool(
                "modify_order",
                160,
                0.03,
                (
                    ("conflict", "order #W{n} is not pending and cannot be modified"),
                    ("payment", "payment method {id} was declined with code {n}"),
                ),
            ),
        ),
        input_tokens=3600,
        output_tokens=120,
        recovery=0.5,
        wrong=0.06,
        refusals=0.006,
        loops=0.005,
        feedback=0.07,
        swing=0.7,
        words=("keyboard", "jacket", "lamp", "kettle", "backpack", "headphones"),
        requests=(
            "I want to return the {word} from order #W{n}.",
            "Can I exchange my {word} for a larger one?",
            "Where is my {word}? Order #W{n}.",
            "Please cancel the {word}.",
        ),
        answers=(
            "Your return of the {word} is arranged; the label is {id}.",
            "The {word} is on its way and should arrive in {n} days.",
            "I have updated your order: the {word} was exchanged.",
        ),
    ),
    Agent(
        name="coding",
        share=0.2,
        versions=(Version("0.9.3", _LONG), Version("0.10.0", _LONG, tokens=1.1)),
        turns=1.8,
        steps=5.0,
        tools=(
            Tool("read_file", 15, 0.01, (("not_found", "no such file: src/{word}/{id}.py"),)),
            Tool(
                "run_tests",
                4200,
                0.05,
                (
                    ("exit_code", "{n} tests failed in {word} (run {id})"),
                    ("timeout", "tests of {word} killed after {n} s"),
                ),
            ),
            Tool("edit_file", 25, 0.02, (("no_match", "text to replace not found at line {n}"),)),
            Tool("approve_command", 20_000, 0.0, (), kind="human_input", weight=0.1),
        ),
        input_tokens=9000,
        output_tokens=420,
        recovery=0.7,
        wrong=0.1,
        refusals=0.002,
        loops=0.015,
        feedback=0.05,
        swing=0.8,
        words=("parser", "scheduler", "login", "cache", "export", "migration"),
        requests=(
            "Fix the failing test in {word}.",
            "Add a retry to the {word}, issue {n}.",
            "Why does the {word} leak memory?",
        ),
        answers=(
            "The {word} is fixed in commit {id}; all {n} tests pass.",
            "I changed {n} lines of the {word}. Please review commit {id}.",
        ),
    ),
    Agent(
        name="research",
        share=0.1,
        versions=(Version("r5", _OWN), Version("r6", _OWN, latency=0.9)),
        turns=1.4,
        steps=4.0,
        tools=(
            Tool(
                "web_search",
                650,
                0.02,
                (("http_429", "search quota of {n} per minute used up (request {id})"),),
                kind="retrieval",
            ),
            Tool(
                "fetch_page",
                900,
                0.06,
                (
                    ("http_403", "403 forbidden: https://{word}.example/{id}"),
                    ("timeout", "https://{word}.example/{id} did not answer within {n} ms"),
                ),
            ),
        ),
        input_tokens=6500,
        output_tokens=650,
        recovery=0.8,
        wrong=0.12,
        refusals=0.01,
        loops=0.01,
        feedback=0.12,
        swing=0.4,
        words=("battery", "inflation", "vaccine", "climate", "trade", "housing"),
        requests=(
            "Summarise what is known about {word} since {n}.",
            "Compare three sources on {word}.",
            "What changed in {word} policy last year?",
        ),
        answers=(
            "Three sources agree on {word}; the newest is {id}.",
            "In short: {word} rose by {n} per mille.",
        ),
    ),
)
