"""A task of the Language Model Evaluation Harness judges a model."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

from tests.language import LINES, TEXT, causal, folder
from tests.networks import mlp
from tsdistill import TsdistillError, compare, evaluate, load

installed = pytest.mark.skipif(importlib.util.find_spec("lm_eval") is None, reason="needs lm-eval")

TASK = """task: tiny_words
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: choices
doc_to_target: answer
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
"""


@pytest.fixture
def task(tmp_path: Path) -> Path:
    rows = []
    for line in LINES:
        first, *_, last = line.split()
        rows.append({"question": first, "choices": [last, "river", "cat"], "answer": 0})
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    path = tmp_path / "tiny.yaml"
    path.write_text(TASK.format(data=data))
    return path


@installed
def test_a_task_of_one_s_own_is_a_figure(tmp_path: Path, task: Path) -> None:
    model = load(folder(causal(), tmp_path / "model"))
    name = f"lm-eval@{task}"
    figures = evaluate(model, [TEXT], [name, "perplexity"], inputs={"length": 8})
    assert list(figures) == [name, "perplexity"]
    assert 0 <= figures[name] <= 1
    assert (10 * figures[name]) % 1 == pytest.approx(0, abs=1e-6)
    compared = compare([model, model], [TEXT], judging=[f"{name}:acc"], inputs={"length": 8}, brief=True)
    assert [each[f"{name}:acc"] for each in compared.metrics] == [figures[name]] * 2


@installed
def test_tasks_and_figures_that_there_are_not(tmp_path: Path, task: Path) -> None:
    model = load(folder(causal(), tmp_path / "model"))
    for name, message in (
        (f"lm-eval@{task}:f1", "has no figure 'f1'; it has acc"),
        ("lm-eval@/nowhere.yaml", "there is no such file"),
        ("lm-eval", "needs a task"),
    ):
        with pytest.raises(TsdistillError, match=message):
            evaluate(model, [TEXT], [name], inputs={"length": 8})


def test_models_that_the_harness_does_not_take() -> None:
    with pytest.raises(TsdistillError, match="takes models of language of transformers"):
        evaluate(mlp(4, 3), torch.zeros(2, 4), ["lm-eval@hellaswag"], inputs={"input_size": (4,)})


def test_the_harness_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    model = load(folder(causal(), tmp_path / "model"))
    with pytest.raises(TsdistillError, match=r"pip install tsdistill\[lm-eval\]"):
        evaluate(model, [TEXT], ["lm-eval@hellaswag"], inputs={"length": 8})
