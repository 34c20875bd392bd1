"""Changes that the detectors are timed on, and the streams on which nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.signal import lfilter

from detectors.change.heavy_tails import TAILS

Values = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], Values]

REFERENCE: Final = 10_000
"""Events from which a baseline is learnt."""
BEFORE: Final = 500
"""Events between the reference and the change."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one stream of events.

    Attributes
    ----------
    name, kind
        Kind is "rate" (0/1), "metric" (milliseconds) or "mix" (category numbers).
    null, changed
        Draw ``(rng, runs, events)`` values, shape (runs, events), before and from the change on.
    log_ratio
        Log likelihood ratio per value for the oracle CUSUM, which knows both laws.
    """

    name: str
    kind: str
    null: Draw
    changed: Draw
    log_ratio: Callable[[Values], Values] | None


def _rate(p: float) -> Draw:
    return lambda rng, runs, events: (rng.random((runs, events)) < p).astype(float)


def _rate_ratio(p: float, q: float) -> Callable[[Values], Values]:
    return lambda x: np.log((1 - q) / (1 - p)) + (x > 0) * np.log(q * (1 - p) / (p * (1 - q)))


def _latency(factor: float) -> Draw:
    return lambda rng, runs, events: factor * rng.lognormal(6, 0.8, (runs, events))


def _tail(rng: np.random.Generator, runs: int, events: int) -> Values:
    """The upper twentieth stretched so that p99 doubles; the median stays."""
    x = rng.lognormal(6, 0.8, (runs, events))
    p95, p99 = (np.exp(6 + 0.8 * stats.norm.ppf(q)) for q in (0.95, 0.99))
    power = np.log(2 * p99 / p95) / np.log(p99 / p95)
    return np.where(x > p95, p95 * (x / p95) ** power, x)


def _tail_ratio(x: Values) -> Values:
    p95, p99 = (np.exp(6 + 0.8 * stats.norm.ppf(q)) for q in (0.95, 0.99))
    power = np.log(2 * p99 / p95) / np.log(p99 / p95)
    away = np.log(np.maximum(x, p95) / p95)
    back = np.log(p95) + away / power
    z1, z0 = (back - 6) / 0.8, (np.log(np.maximum(x, 1e-9)) - 6) / 0.8
    ratio = -(z1**2) / 2 + z0**2 / 2 - np.log(power)
    return np.where(x > p95, ratio, 0.0)


_MIX: Final = np.array([0.40, 0.25, 0.15, 0.10, 0.06, 0.04])
_SHIFTED: Final = np.array([0.35, 0.25, 0.15, 0.10, 0.06, 0.09])
_TOPICS: Final = np.array([0.30, 0.25, 0.15, 0.12, 0.10, 0.08])
_NEW_TOPICS: Final = np.array([0.25, 0.20, 0.15, 0.12, 0.10, 0.18])


def _mix(share: Values) -> Draw:
    return lambda rng, runs, events: rng.choice(share.size, (runs, events), p=share).astype(float)


def _mix_ratio(p: Values, q: Values) -> Callable[[Values], Values]:
    return lambda x: np.log(q / p)[x.astype(int)]


def _gradual(rng: np.random.Generator, runs: int, events: int) -> Values:
    """From 0.1 to 0.2 in a straight line over 24 hours of 60 events."""
    p = 0.1 + 0.1 * np.minimum(np.arange(events) / 1440, 1)
    return (rng.random((runs, events)) < p).astype(float)


CHANGES: Final = (
    Change("failure_10_to_20", "rate", _rate(0.10), _rate(0.20), _rate_ratio(0.1, 0.2)),
    Change("failure_05_to_10", "rate", _rate(0.05), _rate(0.10), _rate_ratio(0.05, 0.1)),
    Change("failure_05_to_07", "rate", _rate(0.05), _rate(0.07), _rate_ratio(0.05, 0.07)),
    Change("failure_gradual_24h", "rate", _rate(0.10), _gradual, _rate_ratio(0.1, 0.2)),
    Change(
        "latency_x1.2",
        "metric",
        _latency(1.0),
        _latency(1.2),
        lambda x: np.log(1.2) * (np.log(x) - 6 - np.log(1.2) / 2) / 0.64,
    ),
    Change("latency_p99_x2", "metric", _latency(1.0), _tail, _tail_ratio),
    Change("tool_mix_5pp", "mix", _mix(_MIX), _mix(_SHIFTED), _mix_ratio(_MIX, _SHIFTED)),
    Change(
        "topic_shift_10pp",
        "mix",
        _mix(_TOPICS),
        _mix(_NEW_TOPICS),
        _mix_ratio(_TOPICS, _NEW_TOPICS),
    ),
)


LATENCIES: Final = ("lognormal", "pareto", "ar1")


@dataclass(frozen=True, slots=True)
class Ticks:
    """Sums and counts per tick, shape (ticks, streams, indicators), and the hour of the week."""

    total: Values
    n: Values
    hour: NDArray[np.int64]


def quiet(
    kind: str, streams: int, days: int, rng: np.random.Generator, per_hour: int = 6
) -> tuple[Ticks, Ticks]:
    """Four weeks to learn from and ``days`` to watch, in which nothing changes.

    Kinds: bernoulli, overdispersed, varying_n, traffic, seasonal (rates); lognormal, pareto, ar1
    (latencies, as ranks and exceedances of the reference).
    """
    ticks = (28 + days) * 24 * per_hour
    hour = (np.arange(ticks) // per_hour) % 168
    n = rng.poisson(12.0, (ticks, streams)).astype(float)
    if kind == "varying_n":
        n = np.round(rng.lognormal(2, 1.2, (ticks, streams)))
    if kind == "traffic":
        # day and night, and a jump of the traffic while it is watched
        wave = 12 * (1 + 0.8 * np.sin(hour / 24 * 2 * np.pi))[:, None]
        wave = wave * np.where(np.arange(ticks) > ticks * 0.8, 3.0, 1.0)[:, None]
        n = rng.poisson(np.broadcast_to(wave, (ticks, streams))).astype(float)
    if kind in LATENCIES:
        total = _ranked(kind, n, 28 * 24 * per_hour, rng)
        counts = np.repeat(n[:, :, None], total.shape[2], axis=2)
    else:
        p = _quiet_rates(kind, hour, streams, rng)
        total = rng.binomial(n.astype(int), p)[:, :, None].astype(float)
        counts = n[:, :, None]
    cut = 28 * 24 * per_hour
    return (
        Ticks(total[:cut], counts[:cut], hour[:cut]),
        Ticks(total[cut:], counts[cut:], hour[cut:]),
    )


def quiet_events(
    kind: str, streams: int, days: int, rng: np.random.Generator
) -> tuple[Values, Values]:
    """The streams of `quiet` value by value, for peers that take no sums: 12 per ten minutes.

    Returns
    -------
    reference, watch : ndarray of shape (streams, 28 * 1728) and (streams, days * 1728)
    """
    ticks = (28 + days) * 144
    hour = (np.arange(ticks) // 6) % 168
    if kind in LATENCIES:
        x = np.stack([_latencies(kind, 12 * ticks, rng) for _ in range(streams)])
    else:
        p = np.repeat(_quiet_rates(kind, hour, streams, rng), 12, axis=0).T
        x = (rng.random(p.shape) < p).astype(float)
    cut = 28 * 144 * 12
    return x[:, :cut], x[:, cut:]


def _quiet_rates(
    kind: str, hour: NDArray[np.int64], streams: int, rng: np.random.Generator
) -> Values:
    """Rate per tick and stream, shape (ticks, streams)."""
    p = np.broadcast_to(rng.uniform(0.03, 0.3, streams), (hour.size, streams))
    if kind == "overdispersed":
        return rng.beta(20 * p, 20 * (1 - p))
    if kind == "seasonal":
        logit = np.log(p / (1 - p)) + 0.6 * np.sin(hour / 24 * 2 * np.pi)[:, None]
        weekend = ((hour // 24) >= 5)[:, None]
        return np.asarray(1 / (1 + np.exp(-(logit + 0.5 * weekend))))
    return p


def _latencies(kind: str, size: int, rng: np.random.Generator) -> Values:
    """Milliseconds of one stream, in order of time."""
    if kind == "lognormal":
        return rng.lognormal(6, 0.8, size)
    if kind == "pareto":
        return 100 * (1 + rng.pareto(1.1, size))
    noise = rng.normal(size=size)
    return np.asarray(np.exp(6 + 0.8 * lfilter([np.sqrt(0.75)], [1, -0.5], noise)))


def _ranked(kind: str, n: Values, cut: int, rng: np.random.Generator) -> Values:
    """Ranks and exceedances of latencies against each stream's first four weeks."""
    total = np.zeros((*n.shape, 1 + len(TAILS)))
    for s in range(n.shape[1]):
        counts = n[:, s].astype(int)
        size = int(counts.sum())
        x = _latencies(kind, size, rng)
        reference = np.sort(x[: counts[:cut].sum()])
        rank = np.searchsorted(reference, x) / reference.size
        tick = np.repeat(np.arange(n.shape[0]), counts)
        scores = (rank, *(rank > q for q in TAILS))
        for i, value in enumerate(scores):
            total[:, s, i] = np.bincount(tick, value, minlength=n.shape[0])
    return np.minimum(total, n[:, :, None])


QUIET: Final = (
    "bernoulli", "overdispersed", "varying_n", "traffic", "seasonal", "lognormal", "pareto", "ar1",
)  # fmt: skip
