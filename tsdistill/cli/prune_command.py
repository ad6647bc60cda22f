"""``tsdistill prune``: a smaller model out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tsdistill.cli import output, progress_display, prune_output, prune_sweep, shared_options
from tsdistill.cli.budget_options import (
    budget,
    options_of_a_plan,
    realignment,
    realignment_options,
    selection,
    selection_options,
)
from tsdistill.cli.command import Command, option
from tsdistill.cli.prune_stages import expected_stages
from tsdistill.errors import TsdistillError
from tsdistill.options import DataOptions, InputOptions, JudgeOptions, SelectionOptions
from tsdistill.options.option_fields import flag
from tsdistill.options.pruning_options import BUDGETS

if TYPE_CHECKING:
    from torch import nn

    from tsdistill import AlignmentReport, PruneResult, PruningPlan
    from tsdistill.data import Stream

HELD_OUT = 256
"""How many samples that pruning did not see the pruned model is compared with the dense one on."""


@click.command(
    "prune",
    cls=Command,
    epilog=shared_options.EPILOG,
    examples=(
        ("tsdistill prune weights.pt --data photos/ --macs 0.5 -o small.safetensors", "half of the MACs"),
        (
            "tsdistill prune weights.pt --data photos/ --max-drop 1 -o small.safetensors",
            "a point of accuracy",
        ),
        ("tsdistill prune weights.pt --data photos/ --sweep 0.8,0.6,0.4 -o models/", "a model each"),
    ),
)
@click.argument("model", metavar="MODEL")
@option("Output", "-o", "--output", "out", metavar="OUT", help="The smaller model, .safetensors or .pt.")
@selection_options
@realignment_options
@option(
    "Budget",
    "--max-drop",
    metavar="P",
    help="The largest cut that loses at most P points of accuracy (without labels: of agreement): 1, 0.5; 5% "
    "is a part of the dense model's figure: of perplexity, for a model of language.",
)
@option(
    "Budget",
    "--drop",
    multiple=True,
    metavar="PATTERN",
    help="In place of a budget: remove residual branches whole, by name (as `tsdistill analyze` lists them) "
    "or pattern: 'blocks.3.*'; give it again for more.",
)
@option(
    "Budget",
    "--metric",
    metavar="NAME",
    help="What --max-drop is judged by instead (see `tsdistill plugins`).",
)
@option(
    "Budget",
    "--sweep",
    metavar="R,R,...",
    help="A model for each of several budgets, a table and a plot; OUT is a folder.",
)
@option(
    "Budget",
    "--sweep-by",
    metavar="NAME",
    default="macs",
    show_default=True,
    help="What the budgets of --sweep count: macs, params, nodes, latency, memory, or a plugin's cost.",
)
@option("Plan", "--dry-run", is_flag=True, help="Show the plan and cut nothing.")
@option("Plan", "--save-plan", metavar="FILE", help="Write which nodes go, and why, as JSON.")
@option("Plan", "--plan", "plan_file", metavar="FILE", help="Follow a plan that --save-plan wrote.")
@shared_options.teacher_options
@shared_options.model_options
@shared_options.data_options
@shared_options.json_option("the outcome")
@progress_display.progress_options
def command(model: str, **params: Any) -> None:
    """Cut the nodes of MODEL that its output depends on least, and write the smaller model.

    The layers that read those nodes are compensated for their loss, and the other nodes are fitted back to
    their outputs by least squares: from samples of --data, without labels and without training.

    One budget is given: --macs, --params, --nodes, --latency or --memory for what is kept, --max-drop for
    what may be lost, --lossless for nothing lost, or several with --sweep. Or --drop names residual branches
    that are removed whole.
    """
    _check(params)
    chosen, fitted = selection(params), realignment(params)
    out, sweep, save_plan, json_file = (params[name] for name in ("out", "sweep", "save_plan", "json_file"))
    output.check(
        output.Output("--save-plan", save_plan),
        output.Output("--json", json_file),
        output.Output("-o", out, _files_of(out, sweep, params["sweep_by"])),
    )
    import tsdistill as tsd
    from tsdistill.models.sources.hf_config import CARD
    from tsdistill.pruning.holdout import JUDGED
    from tsdistill.report.model_card import model_card

    plan = _checked_plan(params)
    with progress_display.stage(f"reading {model}"):
        dense, teacher = shared_options.load_models(model, params)
    if out and tsd.info_of(dense).arch is None:
        raise TsdistillError(
            f"nothing says how to build the model in {model} again; give its --arch to write {out}"
        )
    inputs, other, kind = _split(dense, params, JUDGED if params["max_drop"] or sweep else HELD_OUT)
    cuts = bool(out) and not params["dry_run"]
    if cuts:
        _check_evaluation_data(dense, other)
    with progress_display.progress() as monitor:
        planned = plan is not None or bool(params["drop"])
        monitor.expect(expected_stages(params, fitted, inputs, other, planned=planned, cut=cuts))
    blocks = not planned and _by_blocks(dense, chosen, params)
    if out and not sweep and not Path(out).suffix:
        _check_folder(dense, out, blocks)
        chosen = replace(chosen, uniform=True)
    if not blocks:
        chosen = replace(chosen, uniform=False)
    report = None if planned or blocks else _analysis(dense, teacher, chosen.heads, inputs, params)
    arguments: dict[str, Any] = {"realignment": fitted, "inputs": inputs, "seed": params["seed"]}
    if not planned:
        arguments |= {"selection": chosen, "teacher": teacher, "report": report}
    if blocks and not cuts:
        plan = _pruned(dense, None, params, arguments).plan
    if not cuts:
        _show_plan(dense, plan, report, chosen, inputs, params)
        return
    if sweep:
        prune_sweep.run(dense, params, arguments)
        return
    result = _pruned(dense, plan, params, arguments)
    if save_plan:
        output.write_text(save_plan, result.plan.to_json())
    with progress_display.stage(f"writing {out}"):
        tsd.save(result.model, out, card=model_card(model, result, None))
    with progress_display.progress() as callback:
        models = {"dense": dense, "pruned": result.model}
        compared = tsd.compare(models, other, brief=True, progress=callback)
    if Path(out).is_dir():
        output.write_text(str(Path(out) / CARD), model_card(model, result, compared))
    prune_output.show_result(dense, result, compared, kind, out, json_file)


def _check_folder(dense: nn.Module, out: str, blocks: bool) -> None:
    """Refuse a folder that the pruned model could not be written to, before any work is done."""
    from tsdistill.models.files.save import OUTPUTS
    from tsdistill.models.sources.hf_inputs import is_transformers

    files = ", ".join(OUTPUTS)
    if not is_transformers(dense):
        raise TsdistillError(
            f"-o {out}: a folder is for models of transformers; name a file that ends in {files}"
        )
    if not blocks:
        raise TsdistillError(
            f"-o {out}: the configuration in a folder says equal widths for all blocks; give --uniform, or "
            f"name a file that ends in {files}"
        )


def _files_of(out: str | None, sweep: str | None, kind: str) -> tuple[str, ...]:
    """The files that come to lie in ``out`` if it is a folder, as patterns."""
    if sweep:
        return prune_sweep.files_of(sweep, kind)
    return () if out is None or Path(out).suffix else ("*",)


def _analysis(
    dense: nn.Module, teacher: nn.Module | None, heads: str, inputs: DataOptions, params: dict[str, Any]
) -> AlignmentReport:
    """The analysis that nodes are chosen by."""
    from tsdistill.pruning.pruning_analysis import analysis_options, analyze_for_pruning

    lossless = params["lossless"]
    with progress_display.progress() as callback:
        return analyze_for_pruning(
            dense,
            teacher,
            params["data"],
            heads="whole" if lossless else heads,
            analysis=analysis_options(lossless),
            inputs=inputs,
            seed=params["seed"],
            progress=callback,
        )


def _by_blocks(dense: nn.Module, chosen: SelectionOptions, params: dict[str, Any]) -> bool:
    """Whether the model is pruned block by block, to equal widths."""
    from tsdistill.pruning.blockwise import goes_by_blocks
    from tsdistill.pruning.selection.budget import Budget, budget_of, requested

    if params["max_drop"] is not None:
        wanted: Budget | None = Budget("macs", 1.0)
    elif params["sweep"]:
        kind = params["sweep_by"]
        wanted = budget_of(**{kind: prune_sweep.budgets_of(params["sweep"])[0]})
    else:
        wanted = requested(None, budget(params))
    stated = {"teacher": bool(params["teacher"]), "rounds": params["rounds"] is not None}
    return goes_by_blocks(dense, params["data"], chosen, wanted, **stated)


def _pruned(
    dense: nn.Module, plan: PruningPlan | None, params: dict[str, Any], arguments: dict[str, Any]
) -> PruneResult:
    """The pruned model: by a plan, to a budget, or to a loss of accuracy."""
    import tsdistill as tsd

    with progress_display.progress() as callback:
        arguments = {**arguments, "data": params["data"], "progress": callback}
        if params["max_drop"] is not None:
            judging = JudgeOptions(metric=params["metric"])
            return tsd.prune_to_drop(dense, params["max_drop"], judging=judging, **arguments)
        wanted = {"drop": params["drop"]} if params["drop"] else budget(params)
        goal = {"plan": plan} if plan else {"budget": wanted}
        return tsd.prune_result(dense, **goal, **arguments)


def _show_plan(
    dense: nn.Module,
    plan: PruningPlan | None,
    report: AlignmentReport | None,
    selection: SelectionOptions,
    inputs: DataOptions,
    params: dict[str, Any],
) -> None:
    """Show, and write, the plan of a command that cuts nothing."""
    import tsdistill as tsd
    from tsdistill.pruning.plan_follower import check_plan, plan_of_drop

    notes: tuple[str, ...] = ()
    if plan is not None:
        check_plan(dense, plan, tsd.example_input(dense))
    elif params["drop"]:
        plan = plan_of_drop(dense, params["drop"], data=params["data"], inputs=inputs, seed=params["seed"])
    else:
        assert report is not None
        with progress_display.stage("choosing the nodes to remove"):
            plan, notes = _plan(dense, report, budget(params), selection)
    if params["save_plan"]:
        output.write_text(params["save_plan"], plan.to_json())
    prune_output.show_plan(dense, plan, report, notes, params["save_plan"], params["json_file"])


def _plan(
    model: nn.Module, report: AlignmentReport, budget: dict[str, Any], selection: SelectionOptions
) -> tuple[PruningPlan, tuple[str, ...]]:
    """The plan of a dry run, and notes on it: for some budgets cuts are measured."""
    import tsdistill as tsd
    from tsdistill.pruning.selection.budget import requested
    from tsdistill.pruning.selection.cost import measured_cost
    from tsdistill.pruning.selection.latency_budget import plan_for_measured

    wanted = requested(None, budget)
    if wanted is None or measured_cost(wanted.kind) is None:
        return tsd.plan(report, budget=budget, selection=selection), ()
    chosen = plan_for_measured(model, report, wanted, selection, example=tsd.example_input(model))
    return chosen.plan, chosen.notes


def _check(params: dict[str, Any]) -> None:
    """Refuse options that do not go together.

    Raises:
        TsdistillError: nothing to write to, two budgets, or a plan beside options that make one.
    """
    out, dry_run, save_plan = params["out"], params["dry_run"], params["save_plan"]
    if not (out or dry_run or save_plan):
        raise TsdistillError("say where the smaller model goes: -o OUT (or --dry-run to see the plan only)")
    names = (*BUDGETS, "budget", "lossless", "max_drop", "sweep", "drop")
    budgets = [flag(name) for name in names if params[name]]
    if len(budgets) > 1:
        raise TsdistillError(
            f"{' and '.join(budgets)} do not go together: one of them says how far to cut; leave one out"
        )
    if params["metric"] and not params["max_drop"]:
        raise TsdistillError("--metric goes with --max-drop: it is what that is judged by")
    plans = [
        name
        for name, is_set in (("--dry-run", dry_run), ("--save-plan", params["sweep"] and save_plan))
        if is_set
    ]
    for name in ("max_drop", "sweep"):
        if params[name] is not None and (plans or not out):
            what = plans[0] if plans else "a plan alone"
            raise TsdistillError(
                f"{flag(name)} cuts to see what is lost, so {what} cannot go with it; give -o OUT"
            )
    others = ("max_drop", "sweep", "teacher", "augment", "rounds")
    conflicting = [*options_of_a_plan(params), *(flag(name) for name in others if params[name] is not None)]
    if params["drop"] and conflicting:
        raise TsdistillError(
            f"{', '.join(conflicting)} and --drop do not go together: --drop names what leaves; leave one out"
        )
    if params["plan_file"] is None:
        return
    conflicting += [flag("drop")] if params["drop"] else []
    if conflicting or save_plan:
        named = ", ".join([*conflicting, *(["--save-plan"] if save_plan else [])])
        raise TsdistillError(
            f"{named} and --plan do not go together: the plan says which nodes go; leave one out"
        )


def _checked_plan(params: dict[str, Any]) -> PruningPlan | None:
    """The plan of ``--plan``; refuses an output or a budget that is none, before anything is loaded."""
    import tsdistill as tsd
    from tsdistill import plugins
    from tsdistill.models import check_output
    from tsdistill.pruning.accuracy_search import parse_drop
    from tsdistill.pruning.selection.budget import requested

    if params["sweep"]:
        prune_sweep.check(params["sweep"], params["sweep_by"])
    elif params["out"]:
        check_output(params["out"])
    if params["importance"]:
        plugins.get("importance", params["importance"])
    if params["plan_file"]:
        return tsd.PruningPlan.from_json(Path(params["plan_file"]))
    if params["max_drop"] is not None:
        parse_drop(params["max_drop"])
        if params["metric"]:
            plugins.get("evaluation metric", params["metric"])
    elif params["sweep"] is None and not params["drop"]:
        requested(None, budget(params))
    return None


def _split(model: nn.Module, params: dict[str, Any], most: int) -> tuple[DataOptions, Stream, str]:
    """The options of reading the calibration data, a stream of evaluation data, and the name of its kind."""
    import tsdistill as tsd
    from tsdistill.data.text.text_spec import input_spec
    from tsdistill.pruning.holdout import judges, split
    from tsdistill.statistics.prepared_data import example_like, structured_example

    inputs = shared_options.data_values(params, model)
    spec = tsd.info_of(model).input if params["data"] is None else input_spec(model, InputOptions())

    def opened(samples: int | None) -> Stream:
        data = params["data"] if params["data"] is not None else example_like(structured_example(model))
        reading = replace(inputs.reading, samples=samples)
        return tsd.open_data(data, spec, reading, seed=params["seed"])

    most = judges(model, most)
    samples, other, kind = split(opened, inputs.samples, most, fixed=params["samples"] is not None)
    return replace(inputs, samples=samples), other, kind


def _check_evaluation_data(model: nn.Module, other: Stream) -> None:
    """Refuse data that the metrics do not fit, before pruning instead of after it."""
    import tsdistill as tsd
    from tsdistill.evaluation.evaluator import evaluate_all

    evaluate_all([model], tsd.open_data([next(iter(other))], None), JudgeOptions(), model)
