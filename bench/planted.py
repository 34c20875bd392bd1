# ruff: noqa: E501 - a cause with its wordings is one line
"""Planted failure modes: a stream of failures whose true causes are known.

Forty causes, written by hand, share twelve tools and eight error templates, so that the deterministic
fingerprint cannot tell them apart. A failure says what went wrong in one of several wordings, with
synonyms, dropped words and chatter around it. Sizes follow Zipf's law. A given share of the failures
has a cause of its own, made of words drawn at random: no cluster is right for them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors.failures.features import Failure

# object of the request | problem | wordings of the cause
_MODES: Final = """
order|wrong|charged shipping twice for one parcel;double delivery fee on a single package;shipping cost billed two times
order|loop|kept asking for the same order number;repeatedly requested the order id it already had;asked again and again which order
order|stale|showed an inventory level from last week;relied on outdated stock numbers;stock count was old so the item was gone
order|refuse|would not cancel because of a pending warehouse hold;cancellation blocked by a warehouse hold;hold at the warehouse stopped cancelling
order|wrong|swapped the colour of the lamp for the size;changed lamp size when colour was meant;mixed up lamp colour and lamp size
refund|wrong|paid back to the gift card instead of the credit card;money went to gift card not to credit card;gift card received what the credit card paid
refund|refuse|insisted the thirty day window had passed;claimed the return window of thirty days was over;said thirty days were exceeded
refund|loop|switched between the return and the exchange form;went back and forth from exchange form to return form;alternated return form and exchange form
refund|late|waited for an approval of the finance queue;approval by the finance team never came;finance approval queue stayed open
refund|wrong|ignored the partial amount and returned everything;gave back the full sum although a partial one was asked;whole amount instead of a partial amount
booking|stale|offered seats that were sold already;proposed sold out seats;seats on offer were no longer free
booking|wrong|confused departure with arrival airport;swapped the arrival and departure airports;airport of departure and arrival reversed
booking|refuse|rejected the infant on the lap;did not accept a lap infant;no infant allowed on a lap it said
booking|late|fare expired while passengers were typed in;the fare ran out during passenger entry;passenger entry took so long that the fare lapsed
booking|loop|restarted the search after every date change;each change of date began the search anew;searching from zero after any new date
invoice|wrong|applied the german vat rate in france;vat of germany used for a french customer;french bill carried german vat
invoice|stale|used the company name from before the merger;old company name although the merger is done;name of the company predates the merger
invoice|refuse|declined to split the bill over departments;would not divide the bill among departments;splitting across departments was denied
invoice|late|pdf rendering hung on the logo;the logo blocked the rendering of the pdf;pdf generator stuck at the logo
login|loop|sent one verification code after another;verification codes were sent endlessly;never stopped mailing verification codes
login|refuse|locked out after a phone number change;number of the phone changed and the account locked;lock after changing the phone number
login|wrong|reset the password of the spouse account;password reset hit the account of the spouse;spouse lost the password instead
login|late|waited on the captcha service;captcha did not load in time;the captcha provider was slow
shipment|stale|tracking page repeated the monday status;status from monday shown by tracking;tracking stuck at monday
shipment|wrong|redirected the parcel to the old apartment;sent it to a former apartment;apartment from the previous lease was used
shipment|refuse|customs papers missing so it stopped;no customs documents and therefore no dispatch;halted since the customs form was absent
shipment|late|courier pickup slot was never confirmed;no confirmation of the courier slot;slot for the courier stayed unconfirmed
plan|wrong|upgraded to the yearly tier without consent;yearly tier activated though not agreed;consent missing for the yearly upgrade
plan|refuse|student discount demanded a university mail;university address required for the student price;students rejected without university mail
plan|loop|offered the same retention coupon repeatedly;retention coupon shown over and over;again the identical retention coupon
plan|stale|quoted the price list of last spring;prices from last spring were quoted;spring price list still in use
plan|late|downgrade waits for the billing cycle job;billing cycle job delays the downgrade;nightly billing job did not downgrade
data|wrong|joined the tables on the customer name;name used as join key for customers;customer names as key duplicated rows
data|late|warehouse query scanned every partition;full scan over all partitions of the warehouse;query without partition filter
data|refuse|column level policy hides salaries;salary column masked by a policy;policy on salary columns denied it
data|loop|rewrote the same sql with one comma changed;sql resubmitted with only a comma different;tiny comma edits of identical sql
device|wrong|flashed firmware of the sister model;firmware for the sister device installed;sister model firmware was written
device|late|sensor gateway kept rebooting;the gateway of the sensors rebooted constantly;reboots of the sensor gateway
device|stale|thermostat schedule from winter stayed;winter schedule remained on the thermostat;thermostat still follows the winter plan
device|refuse|pairing needs the admin pin;admin pin missing for pairing;without admin pin no pairing
"""

_OBJECTS: Final = {
    "order": ("order", "purchase", "basket"),
    "refund": ("refund", "reimbursement", "money back"),
    "booking": ("booking", "reservation", "trip"),
    "invoice": ("invoice", "bill", "statement"),
    "login": ("login", "sign in", "account access"),
    "shipment": ("shipment", "delivery", "parcel"),
    "plan": ("plan", "subscription", "contract"),
    "data": ("report", "analysis", "dataset"),
    "device": ("device", "appliance", "hardware"),
}
_PROBLEMS: Final = {
    "wrong": ("agent did the wrong thing", "incorrect action taken", "result was a mistake"),
    "loop": ("agent went in circles", "stuck in a loop", "made no progress"),
    "stale": ("answer was out of date", "outdated information", "old data used"),
    "refuse": ("agent refused", "request turned down", "would not help"),
    "late": ("took too long", "timed out", "no result in time"),
}
_CHATTER: Final = (
    "please help", "customer upset", "second attempt", "again today", "see transcript", "urgent",
    "user gave up", "reported by chat", "no workaround", "happened on mobile", "weekend shift",
    "thanks anyway",
)  # fmt: skip
_TOOLS: Final = {
    "order": "update_record", "refund": "update_record", "plan": "update_record",
    "booking": "search", "shipment": "search", "data": "query", "device": "query",
    "invoice": "create_document", "login": "verify_user",
}  # fmt: skip
_MESSAGES: Final = {
    "wrong": "validation failed for {id}: field {n} has an unexpected value",
    "loop": "step limit of {n} reached",
    "stale": "record {id} not found",
    "refuse": "HTTP 403: not permitted for '{id}'",
    "late": "no answer after {n}s",
}
_ODD_MESSAGES: Final = ("internal error {id}", "upstream returned HTTP 500", "unknown failure {n}")
_SYLLABLES: Final = [
    "ba",
    "be",
    "bi",
    "bo",
    "da",
    "de",
    "du",
    "fa",
    "fi",
    "go",
    "ka",
    "ke",
    "ki",
    "lo",
    "lu",
    "ma",
    "mi",
    "mo",
    "na",
    "ne",
    "pa",
    "pi",
    "ra",
    "ri",
    "so",
    "ta",
    "tu",
    "vo",
]


@dataclass(frozen=True, slots=True)
class Planted:
    """A stream of failures and the truth: a mode's number, or a number of its own from 1000 on."""

    failures: list[Failure]
    truth: np.ndarray


def modes() -> list[tuple[str, str, tuple[str, ...]]]:
    """Object, problem and wordings of every cause."""
    rows = [line.split("|") for line in _MODES.strip().splitlines()]
    return [(where, what, tuple(cause.split(";"))) for where, what, cause in rows]


def stream(
    n: int,
    seed: int,
    *,
    singletons: float = 0.15,
    chosen: list[int] | None = None,
    zipf: float = 1.0,
    drift: float = 0.0,
) -> Planted:
    """Draw ``n`` failures in random order.

    Parameters
    ----------
    n, seed
        How many, and the seed of every choice.
    singletons
        Share of failures with a cause of their own.
    chosen
        Modes to draw from; all by default. Their order is the order of their sizes.
    zipf
        Exponent of the sizes; 0 makes all modes equally large.
    drift
        0 ... 1: how far the wording of every cause has moved from the first wording to the last.
    """
    rng = np.random.default_rng(seed)
    table = modes()
    order = np.array(chosen if chosen is not None else np.random.default_rng(5).permutation(40))
    weight = 1 / np.arange(1, order.size + 1) ** zipf
    single = rng.random(n) < singletons
    picks = order[rng.choice(order.size, n, p=weight / weight.sum())]
    truth = np.where(single, 1000 + np.arange(n), picks)
    failures = [
        _alone(rng) if single[i] else _failure(rng, table[picks[i]], drift) for i in range(n)
    ]
    return Planted(failures, truth)


def _failure(
    rng: np.random.Generator, mode: tuple[str, str, tuple[str, ...]], drift: float
) -> Failure:
    where, what, causes = mode
    lean = np.array([1 - drift, 0.5, drift])
    cause = causes[rng.choice(3, p=lean / lean.sum())].split()
    words = [w for w in cause if rng.random() > 0.12]
    parts = [
        " ".join(words),
        rng.choice(_OBJECTS[where]) if rng.random() < 0.8 else "",
        rng.choice(_PROBLEMS[what]) if rng.random() < 0.7 else "",
        rng.choice(_CHATTER) if rng.random() < 0.6 else "",
    ]
    text = ", ".join(str(parts[i]) for i in rng.permutation(4) if parts[i])
    tool = _TOOLS[where] if rng.random() < 0.8 else str(rng.choice(sorted(set(_TOOLS.values()))))
    usual = rng.random() < 0.75
    return Failure(
        reason="tool_error" if what in ("late", "stale") else "task_failed",
        tool=tool,
        message=_message(rng, _MESSAGES[what] if usual else str(rng.choice(_ODD_MESSAGES))),
        path=("plan", tool, "answer") if rng.random() < 0.7 else ("plan", "search", tool),
        text=text,
    )


def _alone(rng: np.random.Generator) -> Failure:
    def word() -> str:
        return "".join(rng.choice(_SYLLABLES, rng.integers(2, 5)))

    where, what = rng.choice(sorted(_OBJECTS)), rng.choice(sorted(_PROBLEMS))
    parts = [
        " ".join(word() for _ in range(rng.integers(4, 8))),
        str(rng.choice(_OBJECTS[where])) if rng.random() < 0.8 else "",
        str(rng.choice(_PROBLEMS[what])) if rng.random() < 0.7 else "",
        str(rng.choice(_CHATTER)) if rng.random() < 0.6 else "",
    ]
    text = ", ".join(parts[i] for i in rng.permutation(4) if parts[i])
    tool = str(rng.choice(sorted(set(_TOOLS.values()))))
    return Failure(
        reason=str(rng.choice(["tool_error", "task_failed"])),
        tool=tool,
        message=_message(rng, _MESSAGES[what]),
        path=("plan", tool, "answer"),
        text=text,
    )


def _message(rng: np.random.Generator, pattern: str) -> str:
    return pattern.format(id=f"A{rng.integers(10**6)}", n=rng.integers(2, 90))
