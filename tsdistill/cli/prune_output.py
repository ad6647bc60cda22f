"""The results of ``tsdistill prune``: tables on the terminal, or JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tsdistill.cli import output
from tsdistill.printable import printable

if TYPE_CHECKING:
    from rich.console import Console
    from torch import nn

    from tsdistill import AlignmentReport, Comparison, PruneResult, PruningPlan
    from tsdistill.pruning.budget_sweep import Sweep


def show_plan(
    model: nn.Module,
    plan: PruningPlan,
    report: AlignmentReport | None,
    notes: tuple[str, ...],
    save_plan: str | None,
    json_file: str | None,
) -> None:
    """Show the plan of a dry run.

    Args:
        model: the model before pruning.
        plan: the plan.
        report: the analysis that it is based on; ``None`` for a plan from a file.
        notes: notes on the plan.
        save_plan: the file that the plan was written to.
        json_file: path of the JSON output; ``-`` for stdout, which then has no table.
    """
    import tsdistill as tsd
    from tsdistill.report.report_text import header_lines
    from tsdistill.report.tables import costs_table, plan_table

    if json_file:
        output.write_json(json_file, plan.to_dict())
    if json_file == output.STDOUT:
        return
    console = output.console()
    notes = (*tsd.info_of(model).notes, *notes)
    for line in header_lines(report, notes) if report else [f"note    {note}" for note in notes]:
        console.print(line)
    console.print()
    console.print(plan_table(plan))
    console.print(costs_table(plan))
    if save_plan:
        console.print(f"the plan is in {save_plan}; nothing was cut")


def show_result(
    model: nn.Module, result: PruneResult, compared: Comparison, kind: str, out: str, json_file: str | None
) -> None:
    """Show the result of pruning.

    Args:
        model: the model before pruning.
        result: of pruning.
        compared: the comparison of the model before and after.
        kind: the kind of the comparison's samples, such as "held-out samples".
        out: the file of the pruned model.
        json_file: path of the JSON output; ``-`` for stdout, which then has no table.
    """
    import tsdistill as tsd
    from tsdistill.evaluation import file_size
    from tsdistill.pruning.accuracy_search import DropResult

    notes = (*tsd.info_of(model).notes, *result.notes, *compared.notes)
    if json_file:
        searched = {"search": result.search_dict()} if isinstance(result, DropResult) else {}
        contents: dict[str, Any] = {
            "format": 1,
            "kind": "pruning",
            "file": out,
            "data": result.data,
            "rounds": result.rounds,
            "realigned": result.realigned,
            "notes": list(dict.fromkeys((*(result.report.notes if result.report else ()), *notes))),
            "put_back": [{"name": item.name, "cause": item.cause} for item in result.put_back],
            "comparison": {"measured_on": kind, **compared.to_dict()},
            **searched,
            "plan": result.plan.to_dict(),
        }
        output.write_json(json_file, contents)
    if json_file != output.STDOUT:
        _show(output.console(), result, compared, kind, notes)
        output.console().print(f"written to {printable(out)} ({file_size(out) / 1e6:.3g} MB)")


def _show(
    console: Console, result: PruneResult, compared: Comparison, kind: str, notes: tuple[str, ...]
) -> None:
    from tsdistill.pruning.accuracy_search import DropResult
    from tsdistill.report.comparison_table import comparison_table
    from tsdistill.report.numbers import counted
    from tsdistill.report.pareto import trials_table
    from tsdistill.report.report_text import header_lines
    from tsdistill.report.tables import plan_table

    if result.report:
        lines = header_lines(result.report, notes)
    else:
        lines = [f"data    {result.data}", *(f"note    {note}" for note in notes)]
    for line in lines:
        console.print(line)
    console.print()
    console.print(plan_table(result.plan, {item.name for item in result.put_back}))
    if isinstance(result, DropResult):
        console.print(trials_table(result))
    console.print(comparison_table(compared, kind))
    aligned = f"{counted(result.realigned, 'layer')} re-aligned" if result.realigned else "nothing re-aligned"
    console.print(f"{counted(result.rounds, 'round')}; {aligned}")


def show_sweep(model: nn.Module, swept: Sweep, out: str, json_file: str | None) -> None:
    """Show the result of a sweep.

    Args:
        model: the model before pruning.
        swept: the sweep.
        out: the folder of its files.
        json_file: path of the JSON output; ``-`` for stdout, which then has no table.
    """
    import tsdistill as tsd
    from tsdistill.report.pareto import sweep_table
    from tsdistill.report.report_text import header_lines

    if json_file:
        output.write_json(json_file, swept.to_dict())
    if json_file == output.STDOUT:
        return
    console = output.console()
    notes = dict.fromkeys(
        (*tsd.info_of(model).notes, *(note for row in swept.rows for note in row.result.notes))
    )
    report = swept.rows[0].result.report
    for line in header_lines(report, notes) if report else [f"note    {note}" for note in notes]:
        console.print(line)
    console.print()
    console.print(sweep_table(swept))
    console.print(f"written to {printable(out)}: {len(swept.rows)} models, pareto.png and sweep.json")
