"""Peers of the change detectors, each run in its own environment: see ``bench.isolated``.

Task "delays": every peer sees the reference first, then either calm events (how often does it
ring?) or events with a change (how late?). Its own sensitivity is varied over a grid, so that peers
can be compared at equal measured false alarms and not at their defaults.

Task "quiet": every peer at its defaults on streams in which nothing changes.

Peers that take one value at a time are fed so; those that test chunks get chunks, and ring at the
end of one.
"""

# mypy: ignore-errors
# ruff: noqa: D103
import json
import sys
import warnings

import numpy as np

HOUR, DAY = 72, 1728  # events of a stream, 12 per ten minutes


def river():
    from river import drift
    from river.drift import binary

    return {
        "river_adwin": (lambda d=0.002: drift.ADWIN(delta=d), (0.3, 0.1, 0.03, 0.01, 0.002), "any"),
        "river_page_hinkley": (
            lambda t=50, d=0.005: drift.PageHinkley(threshold=t, delta=d),
            ((5, 0.02), (10, 0.02), (20, 0.02), (50, 0.02), (70, 0.02), (100, 0.02),
             (10, 0.05), (20, 0.05), (40, 0.05), (5, 0.1), (10, 0.1), (20, 0.1)),
            "any",
        ),
        "river_kswin": (
            lambda a=0.005: drift.KSWIN(alpha=a, seed=1), (1e-3, 1e-4), "metric",
        ),
        "river_ddm": (
            lambda t=3.0: binary.DDM(drift_threshold=t), (2.5, 2.75, 3.0, 3.5, 4.5), "rate",
        ),
        "river_eddm": (lambda b=0.9: binary.EDDM(beta=b), (0.9, 0.8, 0.6), "rate"),
        "river_hddm_a": (
            lambda c=0.001: binary.HDDM_A(drift_confidence=c), (0.3, 0.15, 0.05, 0.001), "rate",
        ),
        "river_hddm_w": (
            lambda c=0.001: binary.HDDM_W(drift_confidence=c), (0.05, 0.01, 0.003, 0.001), "rate",
        ),
    }  # fmt: skip


def frouros():
    from frouros.detectors.concept_drift import CUSUM, CUSUMConfig

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

    def cusum(level=50.0):
        return Wrapped(lambda: CUSUM(config=CUSUMConfig(lambda_=level, min_num_instances=30)))

    # BOCD is quadratic in the length of a run: too slow for 10,000 events
    return {"frouros_cusum": (cusum, (10, 20, 35, 50, 100), "any")}


class Learnt:
    """Learns from its first thousand values, then watches; begins anew when it has rung."""

    def __init__(self, fit):
        self._fit, self._seen, self._rings = fit, [], None
        self.drift_detected = False

    def update(self, x):  # noqa: D102
        if len(self._seen) < 1000:
            self._seen.append(float(x))
            return
        self._rings = self._rings or self._fit(self._seen)
        self.drift_detected = self._rings(float(x))
        if self.drift_detected:
            self._rings = self._fit(self._seen)


def validanytime():
    from validanytime_detectors.monitors import compile_monitor

    def e_detector(arl=10_000.0):
        def fit(seen):
            null = float(np.clip(np.mean(seen), 1e-3, 0.999))
            monitor = compile_monitor(
                {"kind": "e_detector", "arl_target": arl, "null_mean": null}
            )  # fmt: skip
            state = [monitor.init]

            def rings(x):
                state[0], _, alarm = monitor.step(state[0], x)
                return alarm

            return rings

        return Learnt(fit)

    return {"validanytime_e_detector": (e_detector, (20, 100, 500, 2_500, 10_000), "rate")}


def caliper():
    from drift_caliper import Baseline, Judge, JudgeProviderResponse, Monitor, fit_cusum, fit_ewma

    class Values:
        value = 0.0

        def score(self, **_):
            return JudgeProviderResponse(score=self.value, reasoning="a value of the stream")

    def chart(fitting):
        fitted = {}

        def detector(arl=370.0):
            values = Values()
            judge = Judge.create(
                model_version="stream-20260101", provider=values, criteria="what the stream says"
            )

            def scored(x):
                values.value = x
                return judge.score("a value")

            def fit(seen):
                known = (arl, tuple(seen))
                if known not in fitted:
                    baseline = Baseline()
                    for x in seen:
                        baseline.record(scored(x))
                    fitted[known] = fitting(baseline, target_arl=float(arl))
                monitor = Monitor(fitted[known], receivers=[])
                return lambda x: not monitor.record(scored(x)).is_in_control

            return Learnt(fit)

        return detector

    # Its charts are for scores; shares of failures are said not to be supported yet.
    return {
        "drift_caliper_ewma": (chart(fit_ewma), (100, 370, 1_000, 5_000), "metric"),
        "drift_caliper_cusum": (chart(fit_cusum), (100, 370, 1_000, 5_000), "metric"),
    }


# alibi-detect's online tests install and run, but ten minutes of CPU were not enough for four runs
# of one change (bootstrapped thresholds, kernels per event), so they are left out.


def evidently(reference, streams, kind, size):
    """Alerts of the default drift preset, shape (chunks, streams)."""
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    names = [f"s{i}" for i in range(len(reference))]
    columns = {"numerical_columns" if kind == "metric" else "categorical_columns": names}

    def dataset(values):
        cells = values.T if kind == "metric" else values.T.astype(int).astype(str)
        return Dataset.from_pandas(
            pd.DataFrame(cells, columns=names), data_definition=DataDefinition(**columns)
        )

    known = dataset(reference)
    alerts = []
    for begin in range(0, streams.shape[1] - size + 1, size):
        found = Report([DataDriftPreset()]).run(dataset(streams[:, begin : begin + size]), known)
        row = []
        for metric in found.dict()["metrics"]:
            config = metric["config"]
            if not config["type"].endswith("ValueDrift"):
                continue
            p_value = "p_value" in metric["metric_name"]
            value = float(metric["value"])
            row.append(value < config["threshold"] if p_value else value >= config["threshold"])
        alerts.append(row)
    return np.array(alerts)


def nannyml(reference, streams, kind, size):
    """Alerts of the default univariate drift calculator, shape (chunks, streams)."""
    import pandas as pd
    from nannyml import UnivariateDriftCalculator

    alerts = []
    for before, after in zip(reference, streams, strict=True):
        table = [
            pd.DataFrame({"x": v if kind == "metric" else v.astype(int).astype(str)})
            for v in (before, after[: len(after) // size * size])
        ]
        found = (
            UnivariateDriftCalculator(
                column_names=["x"],
                treat_as_categorical=None if kind == "metric" else ["x"],
                chunk_size=size,
            )
            .fit(table[0])
            .calculate(table[1])
            .filter(period="analysis")
            .to_df()
        )
        alerts.append(found[("x", "jensen_shannon", "alert")].to_numpy(bool))
    return np.array(alerts).T


CHUNKED = {"evidently": evidently, "nannyml": nannyml}
CHUNKS = {"evidently": (250, 500), "nannyml": (100, 250, 500)}
FEW = {"river_kswin": 2, "evidently": 5}  # runs of slow peers


def delays(env, data, kind, before):
    if env in CHUNKED:
        return _chunked_delays(env, data, kind, before)
    found = {}
    for name, (make, grid, wanted) in globals()[env]().items():
        if wanted not in ("any", kind) or kind == "mix":
            continue
        count = min(FEW.get(name, 10**6), len(data["calm"]))
        points = []
        for level in grid:
            alarms = events = 0
            late = []
            for run in range(count):
                reference, calm, after = (
                    _prepared(data[part][run], kind) for part in ("reference", "calm", "after")
                )
                setting = level if isinstance(level, tuple) else (level,)
                detector = make(*setting)
                _feed(detector, reference)
                alarms += len(_feed(detector, calm))
                events += len(calm)
                detector = make(*setting)
                _feed(detector, reference)
                rings = [t for t in _feed(detector, after) if t >= before]
                late.append(rings[0] - before + 1 if rings else float("inf"))
            points.append(_point(level, events, alarms, late))
        found[name] = points
    return found


def _chunked_delays(env, data, kind, before):
    points = []
    if env in FEW:
        data = {name: data[name][: FEW[env]] for name in ("reference", "calm", "after")}
    for size in CHUNKS[env]:
        calm = CHUNKED[env](data["reference"], data["calm"], kind, size)
        after = CHUNKED[env](data["reference"], data["after"], kind, size)
        ends = (np.arange(len(after)) + 1) * size - before
        late = []
        for run in after.T:
            rings = ends[run & (ends > 0)]
            late.append(float(rings[0]) if rings.size else float("inf"))
        point = _point(size, calm.size * size, int(calm.sum()), late)
        points.append({**point, "chunk": size})
    return {env: points}


def _point(level, events, alarms, late):
    return {
        "level": level, "arl": events / max(alarms, 0.5), "alarms": alarms,
        "median": float(np.median(late)), "delays": late,
    }  # fmt: skip


def quiet(env, data, kind, days):
    """Alarms at the peer's defaults, with how many streams were watched for how many days."""
    reference, watch = data["reference"], data["watch"]
    if env in CHUNKED:
        found = {}
        for name, size in (("hour", HOUR), ("day", DAY)):
            # an hour's chunks are many: three days of them
            part = watch if size == DAY else watch[:, : 3 * DAY]
            alerts = CHUNKED[env](reference, part, kind, size)
            found[f"{env}_{name}"] = [int(alerts.sum()), len(watch), part.shape[1] / DAY]
        return found
    found = {}
    for name, (make, _, wanted) in globals()[env]().items():
        if wanted not in ("any", kind):
            continue
        slow = name in FEW
        count, length = (2, 7 * DAY) if slow else (len(watch), watch.shape[1])
        alarms = 0
        for run in range(count):
            detector = make()
            _feed(detector, _prepared(reference[run][-10_000:] if slow else reference[run], kind))
            alarms += len(_feed(detector, _prepared(watch[run][:length], kind)))
        found[name] = [alarms, count, length / DAY]
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
    warnings.simplefilter("ignore")
    request = json.load(sys.stdin)
    data = np.load(request["file"])
    if request["task"] == "delays":
        answer = delays(sys.argv[1], data, request["kind"], request["before"])
    else:
        answer = quiet(sys.argv[1], data, request["kind"], request["days"])
    sys.stdout.write("\n" + json.dumps(answer) + "\n")
