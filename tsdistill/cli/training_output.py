"""What a training shows: a bar with throughput and the time that is left, and a line an epoch."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsdistill.cli import output

if TYPE_CHECKING:
    from tsdistill.distillation import Status, TrainResult

Tell = Callable[["Status"], None]
Report = Callable[[Mapping[str, Any]], None]

_WORDS = {"val/top1": "top-1 {:.2f} %", "val/agreement": "agreement {:.2f} %", "val/kl": "KL {:.4g}"}


def speaks() -> bool:
    """Whether this process talks for all that were started."""
    return os.environ.get("RANK", "0") == "0"


def check(given: Mapping[str, Any]) -> None:
    """Refuse a folder or a file that cannot be written or would destroy what the training reads.

    Raises:
        TsdistillError: says which, and why.
    """
    from tsdistill.distillation.runs import FILES

    output.check(
        output.Output("-o", Path(given["out"]).expanduser(), FILES),
        output.Output("--json", given["json_file"]),
    )


@contextmanager
def showing(epochs: int) -> Iterator[tuple[Tell | None, Report | None]]:
    """What is told how the training stands, and what is given each epoch's line; both write to stderr."""
    if not speaks():
        yield None, None
        return
    if not sys.stderr.isatty():
        yield None, lambda line: output.console(stderr=True).print(epoch_line(line, epochs))
        return
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[said]}", markup=False),
    )
    with Progress(*columns, console=output.console(stderr=True), transient=True) as shown:
        task = shown.add_task("preparing", total=None, said="")

        def tell(status: Status) -> None:
            description = f"epoch {status.epoch + 1}/{status.epochs}"
            shown.update(
                task,
                description=description,
                completed=status.batch,
                total=status.batches,
                said=words(status),
            )

        yield tell, lambda line: shown.console.print(epoch_line(line, epochs))


def words(status: Status) -> str:
    """``"batch 12/468, loss 0.31, 900 samples/s, 2:05 left"``."""
    parts = [f"batch {status.batch}" + (f"/{status.batches}" if status.batches else "")]
    if status.loss is not None:
        parts.append(f"loss {status.loss:.4g}")
    if status.rate:
        parts.append(f"{status.rate:,.0f} samples/s")
    if status.left is not None:
        parts.append(f"{clock(status.left)} left")
    return ", ".join(parts)


def clock(seconds: float) -> str:
    """``"0:45"``, ``"1:02:03"``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def epoch_line(line: Mapping[str, Any], epochs: int) -> str:
    """A log's line for people."""
    terms = {name.removeprefix("loss/"): line[name] for name in line if name.startswith("loss/")}
    each = ", ".join(f"{name} {value:.4g}" for name, value in terms.items()) if len(terms) > 1 else ""
    parts = [f"epoch {line['epoch']}/{epochs}: loss {line['loss']:.4g}" + (f" ({each})" if each else "")]
    parts += [how.format(line[name]) for name, how in _WORDS.items() if line.get(name) is not None]
    if line.get("alignment") is not None:
        keys = {name: f"alignment/{name}" for name in ("strong", "weak")}
        thirds = [f"{name} {line[key]:.3f}" for name, key in keys.items() if key in line]
        parts.append(f"alignment {line['alignment']:.3f}" + (f" ({', '.join(thirds)})" if thirds else ""))
    parts.append(f"{line['rate']:,.0f} samples/s")
    if line.get("skipped"):
        parts.append(f"{line['skipped']} skipped ({line.get('first_skipped', '')})")
    return ", ".join(parts)


def tell_result(result: TrainResult, said: str = "", json_file: str | None = None) -> None:
    """Say what came out, and draw how alignment went beside the model.

    Args:
        result: what came out.
        said: what there is to say of the student that was begun.
        json_file: where the result goes as JSON; ``-`` for stdout, which has nothing else then.
    """
    if not speaks():
        return
    lines = [line for line in (said, *result.notes) if line]
    page = draw(result) if result.history is not None and result.folder is not None else None
    if json_file:
        files = {"model": f"{result.folder}/model.safetensors", "alignment": page and str(page)}
        output.write_json(json_file, {**result.to_dict(), "notes": lines, "files": files})
    if json_file == output.STDOUT:
        return
    if page is not None:
        from tsdistill.report.history import history_table

        output.console().print(history_table(result.history))
        output.console().print(f"alignment over the epochs: {page}")
    if result.resumed is not None:
        lines.append(f"went on after {result.resumed} updates")
    if result.log and result.best is not None:
        epoch, figure = result.best
        lines.append(f"best epoch {epoch}: {figure:.4g} on held-out data")
    lines.append(f"{result.updates} updates; {result.folder}/model.safetensors")
    for line in lines:
        output.console().print(line)


def draw(result: TrainResult) -> Path:
    """Write OUT/alignment.html: how alignment went."""
    from tsdistill.distillation.runs import PAGE
    from tsdistill.report.page import save_page

    assert result.folder is not None
    return save_page(result.history.final, result.folder / PAGE, history=result.history)
