"""``tsdistill compare``: what models cost and what they give, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tsdistill.cli import output, progress_display, shared_options
from tsdistill.cli.analyze_command import check_picture
from tsdistill.cli.command import Command, option, options
from tsdistill.cli.field_options import collected, options_of
from tsdistill.errors import TsdistillError
from tsdistill.options import JudgeOptions

if TYPE_CHECKING:
    from torch import nn

    from tsdistill import Comparison

DATA_HELP = shared_options.DATA_HELP.replace("Without it, synthetic samples.", "Without it, costs only.")


@click.command(
    "compare",
    cls=Command,
    epilog=shared_options.EPILOG,
    examples=(
        ("tsdistill compare dense.pt small.safetensors", "size, operations, speed and memory"),
        ("tsdistill compare dense.pt small.safetensors --data photos/", "accuracy and agreement as well"),
        ("tsdistill compare a.pt b.pt c.pt --data x.npz --metric top1 --plot front.png", "a picture"),
    ),
)
@click.argument("models", metavar="DENSE PRUNED...", nargs=-1, required=True)
@options(*options_of(JudgeOptions))
@option(
    "Output",
    "--plot",
    metavar="FILE",
    help="Draw the first metric against MACs and latency (.png, .svg, .pdf).",
)
@shared_options.json_option("the figures")
@shared_options.data_option(DATA_HELP)
@shared_options.sample_options
@shared_options.model_options
@progress_display.progress_options
def command(models: tuple[str, ...], plot: str | None, json_file: str | None, **params: Any) -> None:
    """Lay models beside the first one: accuracy, agreement with it, size, MACs, speed and memory.

    DENSE and PRUNED are written as MODEL below. Ratios are over DENSE. Accuracy takes labelled data;
    agreement with DENSE and the divergence from it need no labels. Metrics of plugins serve detectors and
    all else.
    """
    _check(plot, json_file, params)
    import tsdistill as tsd

    loaded = [_load(model, params) for model in models]
    with progress_display.progress() as callback:
        compared = tsd.compare(
            loaded,
            params["data"],
            names=models,
            files=[model if Path(model).is_file() else None for model in models],
            progress=callback,
            judging=collected(JudgeOptions, params),
            inputs=shared_options.data_values(params, loaded[0]),
            seed=params["seed"],
        )
    if plot:
        from tsdistill.report.comparison_figure import save_comparison

        with progress_display.stage(f"drawing {plot}"):
            save_comparison(compared, plot)
    if json_file:
        output.write_json(json_file, {"format": 1, "kind": "comparison", **compared.to_dict()})
    if json_file != output.STDOUT:
        _show(compared, loaded)


def _check(plot: str | None, json_file: str | None, params: dict[str, Any]) -> None:
    """Refuse what cannot work, before anything is loaded.

    Raises:
        TsdistillError: an output that cannot be written, an unknown metric, or options that need data and
            there are none.
    """
    output.check(output.Output("--plot", plot), output.Output("--json", json_file))
    check_picture("--plot", plot)
    metrics = params["metric"]
    if params["data"] is None and (plot or metrics):
        option = "--plot" if plot else "--metric"
        raise TsdistillError(f"{option} goes with --data: without data there are costs only")
    for name in metrics:
        from tsdistill.evaluation.metric import metric_kind

        metric_kind(name)


def _load(model: str, params: dict[str, Any]) -> nn.Module:
    import tsdistill as tsd

    arguments = shared_options.load_arguments(params)
    with progress_display.stage(f"reading {model}"):
        return tsd.load(model, arch=params["arch"] if Path(model).exists() else None, **arguments)


def _show(compared: Comparison, models: Sequence[nn.Module]) -> None:
    import tsdistill as tsd
    from tsdistill.report.comparison_table import comparison_table

    console = output.console()
    notes = [note for model in models for note in tsd.info_of(model).notes]
    if not compared.data:
        console.print("data    none: costs only; give --data to see what the models make of it")
    for note in dict.fromkeys((*notes, *compared.notes)):
        console.print(f"note    {note}")
    console.print(comparison_table(compared))
