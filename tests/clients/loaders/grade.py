"""Run exported cases through OpenAI's evals with an agent and a grader of ours; prints JSON."""

import json
import sys
from pathlib import Path

from evals.base import RunSpec
from evals.record import DummyRecorder
from evals.registry import Registry

folder = Path(sys.argv[1])
asked, graded = [], []


class Said:
    def __init__(self, text):
        self.text = text

    def get_completions(self):
        return [self.text]


def text_of(prompt):
    return prompt if isinstance(prompt, str) else "\n".join(m["content"] for m in prompt)


def agent(prompt, **_):
    asked.append(text_of(prompt))
    return Said("" if len(asked) > 1 else "done")


def grader(prompt, **_):
    graded.append(text_of(prompt))
    return Said("Y" if "[Submission]: done" in graded[-1] else "N")


registry = Registry()
registry.add_registry_paths([folder])
spec = registry.get_eval("driftline-regressions")
run = RunSpec(["agent", "grader"], spec.key, "driftline-regressions", "v1", {}, "driftline")
made = registry.get_class(spec)(
    completion_fns=[agent, grader], seed=1, **spec.args, name=spec.key, registry=registry,
    eval_registry_path=spec.registry_path,
)  # fmt: skip
report = made.run(DummyRecorder(run, log=False))
print(json.dumps({"report": report, "asked": asked, "graded": graded}))
