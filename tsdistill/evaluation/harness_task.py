"""Tasks of the Language Model Evaluation Harness (``lm-eval``) as a metric."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from tsdistill.data.text.text_spec import TextSpec, text_spec
from tsdistill.data.text.text_tokenizer import open_tokenizer
from tsdistill.errors import TsdistillError, cause_of
from tsdistill.evaluation.metric import MODEL
from tsdistill.models.sources.hf_inputs import is_transformers

_BATCH = 8
"""Requests in a forward pass: they are short, and of unlike lengths."""


class HarnessTask:
    """``lm-eval@TASK[:FIGURE]``: a figure of a task, as the harness gives it; without ``FIGURE`` its first.

    ``TASK`` is a name of the harness, or a ``.yaml`` file with a task of one's own. L. Gao et al., "A
    framework for few-shot language model evaluation", https://zenodo.org/records/12608602.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    wants: ClassVar[str] = MODEL
    higher_is_better: ClassVar[bool] = True

    def __init__(self) -> None:
        self._figure: float | None = None

    def update(self, outputs: Any, labels: Any, reference_outputs: Any) -> None:  # noqa: ARG002
        """Run the task.

        Args:
            outputs: the model, of transformers.
            labels: the task and the figure, ``"hellaswag:acc_norm"``.
            reference_outputs: unused.

        Raises:
            TsdistillError: the harness is not installed or fails, the model is none of transformers or has no
                tokenizer, there is no such task or figure, or less of the figure is better.
        """
        task, figure = _parsed(labels)
        self._figure = _figure_of(_results(outputs, task), figure, task)

    def compute(self) -> float:
        """The figure.

        Raises:
            TsdistillError: no model was given.
        """
        if self._figure is None:
            raise TsdistillError("lm-eval was given no model; leave it out")
        return self._figure


def _parsed(text: Any) -> tuple[str, str | None]:
    """A task and the figure that is asked for."""
    task, colon, figure = str(text or "").rpartition(":")
    if not colon:
        task, figure = figure, ""
    if not task:
        raise TsdistillError("lm-eval needs a task: lm-eval@hellaswag, or lm-eval@FILE.yaml of your own")
    return task, figure or None


def _results(model: nn.Module, task: str) -> Mapping[str, Any]:
    """What the harness says of a model on a task."""
    spec = text_spec(model)
    if not is_transformers(model) or not isinstance(spec, TextSpec):
        raise TsdistillError(f"lm-eval@{task} takes models of language of transformers; leave it out")
    tokenizer = open_tokenizer(spec.tokenizer).of_transformers
    harness = _harness(task)
    path = Path(task).expanduser()
    own = path.suffix in (".yaml", ".yml")
    if own and not path.is_file():
        raise TsdistillError(f"lm-eval@{task}: there is no such file")
    try:
        with _quiet():
            from lm_eval.models.huggingface import HFLM

            manager = harness.tasks.TaskManager(
                include_path=str(path.parent) if own else None, include_defaults=not own
            )
            name = _task_name(path) if own else task
            adapter = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=_BATCH)
            done = harness.simple_evaluate(
                adapter, tasks=[name], task_manager=manager, bootstrap_iters=0, log_samples=False
            )
    except TsdistillError:
        raise
    except Exception as error:  # the harness and its tasks may raise anything
        raise TsdistillError(f"lm-eval@{task} fails: {cause_of(error)}; see that it names a task") from error
    better = done.get("higher_is_better", {}).get(name, {})
    return {"figures": done["results"][name], "better": better}


def _figure_of(results: Mapping[str, Any], wanted: str | None, task: str) -> float:
    """The figure of a name, else the first."""
    figures: dict[str, float] = {}
    for key, value in results["figures"].items():
        name = key.partition(",")[0]
        if isinstance(value, (int, float)) and "stderr" not in name and name not in ("sample_len", "alias"):
            figures.setdefault(name, float(value))
    name = wanted or next(iter(figures), "")
    if name not in figures:
        known = ", ".join(figures) or "none"
        raise TsdistillError(f"lm-eval@{task} has no figure {name!r}; it has {known}")
    if results["better"].get(name) is False:
        raise TsdistillError(
            f"lm-eval@{task}: less of {name} is better, which cannot be said here; name another figure, or "
            "perplexity"
        )
    return figures[name]


def _harness(task: str) -> Any:
    try:
        with _quiet():
            import lm_eval
            import lm_eval.tasks
    except ImportError as error:
        raise TsdistillError(
            f"lm-eval@{task} needs the harness ({cause_of(error)}); pip install tsdistill[lm-eval]"
        ) from error
    return lm_eval


def _task_name(path: Path) -> str:
    """The name that a file gives its task."""
    import yaml

    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.startswith("task:"):
                return str(yaml.safe_load(line)["task"])
    raise TsdistillError(f"lm-eval@{path}: the file names no task (task: NAME)")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what the harness says on the way."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)
