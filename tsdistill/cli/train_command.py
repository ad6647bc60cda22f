"""``tsdistill train``: a model on labels, without a teacher."""

from __future__ import annotations

from typing import Any

import click

from tsdistill.cli import progress_display, shared_options, training_options, training_output
from tsdistill.cli.command import Command
from tsdistill.options import TrainOptions


@click.command(
    "train",
    cls=Command,
    of_file=TrainOptions,
    epilog=shared_options.EPILOG,
    examples=(
        (
            "tsdistill train timm:resnet18,num_classes=10 --data images/ -o run/",
            "10 epochs with AdamW",
        ),
        (
            "tsdistill train small.safetensors --data images/ --val held-out/ --epochs 30 -o run/",
            "the best is kept",
        ),
        (
            "tsdistill train small.safetensors --data images/ -o run/ --resume",
            "go on where it was stopped",
        ),
    ),
)
@click.argument("model", metavar="MODEL")
@training_options.training_options
@progress_display.progress_options
def command(model: str, **given: Any) -> None:
    """Train MODEL on --data and write it to the folder OUT; with --width afresh, at that width.

    OUT holds model.safetensors, options.json, log.jsonl and checkpoints; with --val, best.safetensors.
    Several processes: `accelerate launch -m tsdistill train ...`, or torchrun.
    """
    training_output.check(given)
    how = training_options.resolved(given)
    import torch

    import tsdistill as tsd

    torch.manual_seed(how.seed)
    with progress_display.working(f"reading {model}"):
        loaded = tsd.load(model, arch=given["arch"], **training_options.loading(given))
        trained, said = training_options.at_width(loaded, given["width"], how.seed)
    identity = {"model": model, **training_options.files(given, "width")}
    with training_output.showing(how.epochs, how.steps) as (tell, report):
        result = tsd.train(
            trained,
            **training_options.running(given, how),
            identity=identity,
            tell=tell,
            report=report,
        )
    training_output.tell_result(result, said, given["json_file"])
