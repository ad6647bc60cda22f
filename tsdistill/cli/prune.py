"""``tsdistill prune``: a smaller model out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tsdistill.cli import options, output
from tsdistill.errors import TsdistillError

if TYPE_CHECKING:
    from rich.console import Console
    from torch import nn

    from tsdistill import AlignmentReport, Comparison, PruneResult, PruningPlan
    from tsdistill.data import Stream

HELD_OUT = 256
"""How many samples that pruning did not see the pruned model is compared with the dense one on."""


@click.command("prune", epilog=" ".join(options.MODEL_HELP.split()))
@click.argument("model", metavar="MODEL")
@click.option("-o", "--output", "out", metavar="OUT", help="The smaller model, .safetensors or .pt.")
@click.option("--macs", metavar="R", help="Part of the MACs that is kept: 0.5 or 50%.")
@click.option("--params", metavar="R", help="Part of the parameters that is kept.")
@click.option("--nodes", metavar="R", help="Part of the prunable nodes that is kept.")
@click.option("--min-nodes", type=click.IntRange(min=1), metavar="N", help="Nodes that stay in every group.")
@click.option(
    "--keep-strong/--no-keep-strong",
    default=True,
    show_default=True,
    help="Whether the teacher's nodes weigh by their strength or all the same.",
)
@click.option("--dry-run", is_flag=True, help="Show the plan and cut nothing.")
@click.option("--save-plan", metavar="FILE", help="Write which nodes go, and why, as JSON.")
@click.option("--plan", "plan_file", metavar="FILE", help="Follow a plan that --save-plan wrote.")
@options.teacher_options
@options.model_options
@options.data_options
@click.option("--json", "json_file", metavar="FILE|-", help="Write the outcome as JSON; - for stdout.")
def command(
    model: str,
    out: str | None,
    dry_run: bool,
    save_plan: str | None,
    plan_file: str | None,
    json_file: str | None,
    **given: Any,
) -> None:
    """Cut the nodes of MODEL that its output depends on least, and write the smaller model.

    The layers that read those nodes absorb what they gave, with statistics from --data: no labels, no
    training.

    One budget is given, the part that is kept: --macs, --params or --nodes.
    """
    _check(out, dry_run, save_plan, plan_file, given)
    for path in (out, save_plan, json_file):
        output.check_writable(path)
    import tsdistill as tsd
    from tsdistill.models import check_output
    from tsdistill.pruning.choosing.budget import budget_of

    if out:
        check_output(out)
    plan = tsd.PruningPlan.from_json(_text(plan_file)) if plan_file else None
    if plan is None:
        budget_of(given["macs"], given["params"], given["nodes"])
    with output.working(f"loading {model}"):
        dense, teacher = options.load_models(model, given)
    if out and tsd.info_of(dense).arch is None:
        raise TsdistillError(
            f"nothing says how to build the model in {model} again; give its --arch to write {out}"
        )
    given["samples"], other, kind = _split(dense, given)
    budget = {name: given[name] for name in ("macs", "params", "nodes", "keep_strong", "min_nodes")}
    report = None
    if plan is None:
        with output.working("observing the nodes"):
            report = tsd.analyze(dense, teacher, given["data"], **options.observing(given))
    elif dry_run:
        plan.check(tsd.trace(dense, tsd.example_input(dense)))
    if dry_run or not out:
        if report is not None:
            with output.working("choosing the nodes that leave"):
                plan = tsd.plan(report, **budget)
        assert plan is not None
        if save_plan:
            output.write_text(save_plan, plan.to_json())
        _tell_plan(dense, plan, report, save_plan, json_file)
        return
    with output.working("choosing and cutting the nodes that leave" if report else "cutting"):
        how = {"report": report, **budget} if report else {"plan": plan}
        result = tsd.prune_result(dense, data=given["data"], **how, **options.reading(given))
    if save_plan:
        output.write_text(save_plan, result.plan.to_json())
    with output.working("comparing"):
        compared = tsd.compare({"dense": dense, "pruned": result.model}, other)
    with output.working(f"writing {out}"):
        tsd.save(result.model, out)
    _tell(dense, result, compared, kind, out, json_file)


def _check(
    out: str | None, dry_run: bool, save_plan: str | None, plan_file: str | None, given: dict[str, Any]
) -> None:
    """Refuse options that do not go together.

    Raises:
        TsdistillError: nothing to write to, or a plan beside options that make one.
    """
    if not (out or dry_run or save_plan):
        raise TsdistillError("say where the smaller model goes: -o OUT (or --dry-run to see the plan only)")
    if plan_file is None:
        return
    making = ("macs", "params", "nodes", "min_nodes", "teacher", "augment")
    beside = [f"--{name.replace('_', '-')}" for name in making if given[name] is not None]
    if beside or save_plan:
        named = ", ".join([*beside, *(["--save-plan"] if save_plan else [])])
        raise TsdistillError(
            f"{named} and --plan do not go together: the plan says which nodes go; leave one out"
        )


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise TsdistillError(
            f"{path} is no plan: it is not text; give a file that --save-plan wrote"
        ) from error


def _split(model: nn.Module, given: dict[str, Any]) -> tuple[int | None, Stream, str]:
    """How many samples pruning may see, others to compare the models on, and what to call those.

    Without ``--samples`` a fifth of data that would be used up is left out. Where ``--samples`` asks for
    everything the models are compared on the same samples.
    """
    import tsdistill as tsd

    def opened(samples: int | None) -> Stream:
        how = {**options.reading(given), "samples": samples}
        return tsd.open_data(given["data"], tsd.info_of(model).input, **how)

    samples = options.reading(given)["samples"]
    seen = opened(samples)
    other = seen.held_out(HELD_OUT)
    if other is None and given["samples"] is None and (seen.samples or 0) > 1:
        samples = (seen.samples or 0) - max(1, min(HELD_OUT, (seen.samples or 0) // 5))
        seen = opened(samples)
        other = seen.held_out(HELD_OUT)
    if other is None:
        return samples, seen, "the samples that pruning saw (none are left)"
    return samples, other, "held-out samples"


def _tell_plan(
    model: nn.Module,
    plan: PruningPlan,
    report: AlignmentReport | None,
    save_plan: str | None,
    json_file: str | None,
) -> None:
    import tsdistill as tsd
    from tsdistill.report.tables import costs_table, plan_table
    from tsdistill.report.text import heading

    if json_file:
        output.write_json(json_file, plan.to_dict())
    if json_file == output.STDOUT:
        return
    console = output.console()
    notes = tsd.info_of(model).notes
    for line in heading(report, notes) if report else [f"note    {note}" for note in notes]:
        console.print(line)
    console.print()
    console.print(plan_table(plan))
    console.print(costs_table(plan))
    if save_plan:
        console.print(f"the plan is in {save_plan}; nothing was cut")


def _tell(
    model: nn.Module,
    result: PruneResult,
    compared: Comparison,
    kind: str,
    out: str,
    json_file: str | None,
) -> None:
    import tsdistill as tsd
    from tsdistill.evaluation import file_size

    notes = (*tsd.info_of(model).notes, *result.notes)
    if json_file:
        contents = {
            "format": 1,
            "kind": "pruning",
            "file": out,
            "data": result.data,
            "notes": list(notes),
            "put_back": [{"name": item.name, "cause": item.cause} for item in result.put_back],
            "comparison": {"measured_on": kind, **compared.to_dict()},
            "plan": result.plan.to_dict(),
        }
        output.write_json(json_file, contents)
    if json_file != output.STDOUT:
        _show(output.console(), result, compared, kind, notes)
        output.console().print(f"written to {out} ({file_size(out) / 1e6:.3g} MB)")


def _show(
    console: Console, result: PruneResult, compared: Comparison, kind: str, notes: tuple[str, ...]
) -> None:
    from tsdistill.report.tables import comparison_table, plan_table
    from tsdistill.report.text import heading

    if result.report:
        lines = heading(result.report, notes)
    else:
        lines = [f"data    {result.data}", *(f"note    {note}" for note in notes)]
    for line in lines:
        console.print(line)
    console.print()
    console.print(plan_table(result.plan, {item.name for item in result.put_back}))
    console.print(comparison_table(compared, kind))
