"""Load exported cases with the frameworks' own loaders; prints one JSON object."""

import json
import os
import sys
from pathlib import Path

os.environ["DEEPEVAL_TELEMETRY_OPT_OUT"] = "YES"
folder = Path(sys.argv[1])


def inspect():
    from inspect_ai.dataset import json_dataset

    samples = json_dataset(str(folder / "inspect.jsonl"))
    return [{"id": s.id, "said": s.input[-1].text, "target": s.target} for s in samples]


def deepeval():
    from deepeval.dataset import EvaluationDataset

    dataset = EvaluationDataset()
    dataset.add_goldens_from_jsonl_file(str(folder / "deepeval.jsonl"))
    return [
        {"id": g.additional_metadata["case"], "said": g.input, "expected": g.expected_output}
        for g in dataset.goldens
    ]


def langsmith():
    from langsmith.schemas import ExampleCreate

    rows = (folder / "langsmith.jsonl").read_text("utf-8").splitlines()
    examples = [ExampleCreate(**json.loads(row)) for row in rows]
    return [
        {"id": e.metadata["case"], "said": e.inputs["messages"][-1]["content"], "split": e.split}
        for e in examples
    ]


print(json.dumps({f.__name__: f() for f in (inspect, deepeval, langsmith)}))
