"""Progress of a training: a bar with throughput and remaining time, and a line for each epoch."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsdistill.cli import output, progress_display

if TYPE_CHECKING:
    from tsdistill.distillation import TrainResult
    from tsdistill.distillation.training_log import Report
    from tsdistill.runtime.progress import Progress, TrainingStatus

_WORDS = {
    "val/top1": "top-1 {:.2f} %",
    "val/agreement": "agreement {:.2f} %",
    "val/kl": "KL {:.4g} nats",
    "val/mse": "mse {:.4g}",
    "val/mae": "mae {:.4g}",
    "val/output_mse": "output error {:.4g}",
}
_NAMES = {"top1": "top-1", "kl": "KL", "output_mse": "output error"}


def check(params: Mapping[str, Any]) -> None:
    """Refuse a folder or a file that cannot be written or would destroy what the training reads.

    Raises:
        TsdistillError: says which, and why.
    """
    from tsdistill.distillation.run_folder import FILES

    output.check(
        output.Output("-o", Path(params["out"]).expanduser(), FILES),
        output.Output("--json", params["json_file"]),
    )


@contextmanager
def training_display(epochs: int, steps: int | None = None) -> Iterator[tuple[Progress | None, Report]]:
    """Two callbacks that write to stderr: one for the state of the training, one for each epoch's log line.

    Args:
        epochs: how many there will be.
        steps: updates after which the training ends, ``None`` where the epochs decide.
    """
    with progress_display.progress() as monitor:
        monitor("preparing", 0, None)
        pace = _Pace(epochs, steps)

        def report(line: Mapping[str, Any]) -> None:
            monitor.line(epoch_line(line, epochs, pace.left(int(line["epoch"]))))

        yield None if monitor.silent else _TrainingMonitor(monitor, pace), report


class _Pace:
    """Estimates the remaining time after an epoch from the duration of the last one."""

    def __init__(self, epochs: int, steps: int | None) -> None:
        self._epochs, self._steps = epochs, steps
        self._since: float | None = None
        self._status: tuple[float, float] | None = None

    def update(self, status: TrainingStatus) -> None:
        """Take the state of the training."""
        now = time.monotonic()
        self._since = self._since or now
        self._status = None if status.left is None else (now, status.left)

    def left(self, epoch: int) -> float | None:
        """Remaining seconds after ``epoch``; ``None`` if unknown."""
        now, since = time.monotonic(), self._since
        self._since = now
        if self._steps is not None:
            return None if self._status is None else max(0.0, self._status[1] - (now - self._status[0]))
        return None if since is None else (now - since) * (self._epochs - epoch)


class _TrainingMonitor:
    """The progress of a training, with loss and throughput beside the batches."""

    def __init__(self, monitor: progress_display.Monitor, pace: _Pace) -> None:
        self._monitor, self._pace = monitor, pace

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        self._monitor(stage, done, total)

    def training(self, status: TrainingStatus) -> None:
        """Show the state of the training."""
        self._pace.update(status)
        self._monitor.update(status.stage, status.batch, status.batches, detail=words(status), silent=True)


def words(status: TrainingStatus) -> str:
    """``"batch 12/468, loss 0.31, 900 samples/s, 2:05 left"``."""
    parts = [f"batch {status.batch}" + (f"/{status.batches}" if status.batches else "")]
    if status.loss is not None:
        parts.append(f"loss {status.loss:.4g}")
    if status.rate:
        parts.append(f"{status.rate:,.0f} samples/s")
    if status.left is not None:
        parts.append(f"{progress_display.clock(status.left)} left")
    return ", ".join(parts)


def epoch_line(line: Mapping[str, Any], epochs: int, left: float | None = None) -> str:
    """A line of the log as text.

    Args:
        line: the log's entry, by name.
        epochs: number of epochs of the training.
        left: seconds until the end of the training, if known.
    """
    figures = _figures(line)
    if line["epoch"] == 0:
        return f"before training: {', '.join(figures)}"
    terms = {name.removeprefix("loss/"): line[name] for name in line if name.startswith("loss/")}
    each = ", ".join(f"{name} {value:.4g}" for name, value in terms.items()) if len(terms) > 1 else ""
    parts = [f"epoch {line['epoch']}/{epochs}: loss {line['loss']:.4g}" + (f" ({each})" if each else "")]
    parts += figures
    if line.get("alignment") is not None:
        keys = {name: f"alignment/{name}" for name in ("strong", "weak")}
        thirds = [f"{name} {line[key]:.3f}" for name, key in keys.items() if key in line]
        parts.append(f"alignment {line['alignment']:.3f}" + (f" ({', '.join(thirds)})" if thirds else ""))
    parts.append(f"{line['rate']:,.0f} samples/s")
    if line.get("seconds") is not None:
        parts.append(progress_display.duration(line["seconds"]))
    if left:
        parts.append(f"about {progress_display.clock(left)} left")
    if line.get("skipped"):
        parts.append(f"{line['skipped']} skipped ({line.get('first_skipped', '')})")
    return ", ".join(parts)


def _figures(line: Mapping[str, Any]) -> list[str]:
    """The figures on held-out data in words: those over all outputs, without any those of each output."""
    known = {name: value for name, value in line.items() if value is not None}
    whole = [pattern.format(known[name]) for name, pattern in _WORDS.items() if name in known]
    return whole or [
        f"{pattern.format(value)} of {name.partition('@')[2]}"
        for metric, pattern in _WORDS.items()
        for name, value in known.items()
        if name.startswith(f"{metric}@")
    ]


def show_result(result: TrainResult, message: str = "", json_file: str | None = None) -> None:
    """Print the result of a training and write the page of alignment over the epochs.

    Args:
        result: of the training.
        message: a line about the student of ``--width``; none if empty.
        json_file: where the result goes as JSON; ``-`` for stdout, which has nothing else then.
    """
    if not progress_display.speaks():
        return
    lines = [line for line in (message, *result.notes) if line]
    page = draw(result) if result.history is not None and result.folder is not None else None
    if json_file:
        files = {"model": f"{result.folder}/model.safetensors", "alignment": page and str(page)}
        output.write_json(json_file, {**result.to_dict(), "notes": lines, "files": files})
    if json_file == output.STDOUT:
        return
    progress_display.finish()
    if page is not None:
        from tsdistill.report.history_table import history_table

        output.console().print(history_table(result.history))
        output.console().print(f"alignment over the epochs: {page}")
    if result.resumed is not None:
        lines.append(f"went on after {result.resumed} updates")
    if result.log and result.best is not None:
        epoch, figure = result.best
        name, unit = result.judged_by or ("", "")
        when = f"epoch {epoch}" if epoch else "before training (epoch 0)"
        shown = f"{_NAMES.get(name, name)} {figure:.4g}{' ' if unit else ''}{unit}"
        lines.append(f"best {when}: {shown} on held-out data")
    lines.append(f"{result.updates} updates; {result.folder}/model.safetensors")
    for line in lines:
        output.console().print(line)


def draw(result: TrainResult) -> Path:
    """Write OUT/alignment.html: alignment over the epochs."""
    from tsdistill.distillation.run_folder import PAGE
    from tsdistill.report.page import save_page

    assert result.folder is not None
    return save_page(result.history.final, result.folder / PAGE, history=result.history)
