"""``tsdistill prune --sweep``: a model a budget, a table and a picture."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsdistill.cli import output, progress_display, prune_output
from tsdistill.errors import TsdistillError

if TYPE_CHECKING:
    from torch import nn

    from tsdistill.pruning.budget_sweep import SweepRow

TABLE, PICTURE = "sweep.json", "pareto.png"


def budgets_of(text: str) -> list[str]:
    """The budgets of ``--sweep 0.8,0.6,0.4``."""
    return [part.strip() for part in text.split(",") if part.strip()]


def check(text: str, kind: str) -> None:
    """Refuse a sweep that cannot work, before anything is loaded.

    Raises:
        TsdistillError: budgets that are none, or two whose models would be one file.
    """
    from tsdistill.pruning.budget_sweep import check_budgets

    budgets = budgets_of(text)
    check_budgets(budgets, kind)
    named: dict[str, str] = {}
    for budget in budgets:
        other = named.setdefault(file_name(kind, budget), budget)
        if other is not budget:
            raise TsdistillError(f"--sweep: {other} and {budget} go to one file; leave one out")


def files_of(text: str, kind: str) -> tuple[str, ...]:
    """The names of the files of a sweep, in its folder."""
    return (*(file_name(kind, budget) for budget in budgets_of(text)), TABLE, PICTURE)


def run(dense: nn.Module, params: dict[str, Any], arguments: dict[str, Any]) -> None:
    """Prune to each budget of ``--sweep`` and write models, table and figure.

    Every model is written as soon as it is pruned.

    Args:
        dense: the model before pruning.
        params: the command's options.
        arguments: further arguments of `tsdistill.pruning.budget_sweep.sweep`, with the ``report``.
    """
    import tsdistill as tsd
    from tsdistill.pruning.budget_sweep import sweep
    from tsdistill.report.pareto import save_pareto

    folder, kind = Path(params["out"]), params["sweep_by"]
    folder.mkdir(exist_ok=True)

    def done(row: SweepRow) -> None:
        tsd.save(row.result.model, folder / file_name(kind, row.budget))

    budgets = {kind: budgets_of(params["sweep"])}
    with progress_display.progress() as callback:
        swept = sweep(dense, budgets, data=params["data"], progress=callback, done=done, **arguments)
    output.write_json(str(folder / TABLE), swept.to_dict())
    if swept.comparison.figures:
        save_pareto(swept, folder / PICTURE, title=tsd.info_of(dense).arch or "")
    prune_output.show_sweep(dense, swept, params["out"], params["json_file"])


def file_name(kind: str, budget: str) -> str:
    """``macs-0.8.safetensors``; ``macs-50percent.safetensors`` for a budget of 50%."""
    text = re.sub(r"[^0-9A-Za-z._-]", "", f"{kind}-{budget.replace('%', 'percent')}")
    return f"{text}.safetensors"
