"""Peers of the change detectors, each run in its own environment: see ``infra.bench.isolated``.

Every peer sees the reference first, then either calm events (how often does it ring?) or events with
a change (how late?). Its own sensitivity is varied over a grid, so that peers can be compared at
equal measured false alarms and not at their defaults.
"""

# mypy: ignore-errors
# ruff: noqa: D103, E501
import json
import sys

import numpy as np


def river():
    from river import drift
    from river.drift import binary

    return {
        "river_adwin": (lambda d: drift.ADWIN(delta=d), (0.3, 0.1, 0.02, 0.002), "any"),
        "river_page_hinkley": (
            lambda t: drift.PageHinkley(threshold=t, delta=0.02), (5, 10, 20, 50), "any",
        ),
        "river_kswin": (
            lambda a: drift.KSWIN(alpha=a, seed=1), (1e-3, 1e-4, 1e-5), "metric",
        ),
        "river_ddm": (
            lambda t: binary.DDM(drift_threshold=t), (2.5, 3.0, 3.5, 4.5), "rate",
        ),
        "river_eddm": (lambda b: binary.EDDM(beta=b), (0.9, 0.8, 0.6), "rate"),
        "river_hddm_a": (
            lambda c: binary.HDDM_A(drift_confidence=c), (0.3, 0.05, 0.001), "rate",
        ),
        "river_hddm_w": (
            lambda c: binary.HDDM_W(drift_confidence=c), (0.05, 0.01, 0.001), "rate",
        ),
    }  # fmt: skip


def frouros():
    from frouros.detectors.concept_drift import BOCD, CUSUM, BOCDConfig, CUSUMConfig

    class Wrapped:
        def __init__(self, make):
            self._make = make
            self._inner = make()
            self.drift_detected = False

        def update(self, x):
            self._inner.update(value=x)
            self.drift_detected = bool(self._inner.drift)
            if self.drift_detected:
                self._inner = self._make()

    def cusum(level):
        return Wrapped(lambda: CUSUM(config=CUSUMConfig(lambda_=level, min_num_instances=30)))

    _ = BOCD, BOCDConfig  # quadratic in the length of a run: too slow for 10,000 events
    return {"frouros_cusum": (cusum, (20, 50, 100), "any")}


# alibi-detect's online tests install and run, but ten minutes of CPU were not enough for four runs
# of one change (bootstrapped thresholds, kernels per event), so they are left out.

FEW = {"river_kswin": 3}  # runs of slow peers


def measure(env, request):
    data = np.load(request["file"])
    kind, before = request["kind"], request["before"]
    found = {}
    for name, (make, grid, wanted) in globals()[env]().items():
        if wanted not in ("any", kind):
            continue
        points = []
        for level in grid:
            alarms = events = 0
            delays = []
            count = min(FEW.get(name, 10**6), len(data["calm"]))
            for run in range(count):
                reference, calm, after = (
                    _prepared(data[part][run], kind) for part in ("reference", "calm", "after")
                )
                detector = make(level)
                _feed(detector, reference)
                alarms += len(_feed(detector, calm))
                events += len(calm)
                detector = make(level)
                _feed(detector, reference)
                rings = [t for t in _feed(detector, after) if t >= before]
                delays.append(rings[0] - before + 1 if rings else float("inf"))
            median = float(np.median(delays))
            points.append(
                {"level": level, "arl": events / max(alarms, 0.5), "median": median,
                 "delays": delays}
            )  # fmt: skip
        found[name] = points
    return found


def _prepared(values, kind):
    """Logarithms of latencies: raw milliseconds make mean-based detectors ring at every outlier."""
    return np.log(values).tolist() if kind == "metric" else values.astype(int).tolist()


def _feed(detector, values):
    rings = []
    for t, x in enumerate(values):
        detector.update(x)
        if detector.drift_detected:
            rings.append(t)
    return rings


if __name__ == "__main__":
    answer = measure(sys.argv[1], json.load(sys.stdin))
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
