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
        ("tsdistill train timm:resnet18,num_classes=10 --data images/ -o run/", "10 epochs with AdamW"),
        (
            "tsdistill train small.safetensors --data images/ --val held-out/ --epochs 30 -o run/",
            "the best is kept",
        ),
        ("tsdistill train small.safetensors --data images/ -o run/ --resume", "go on where it was stopped"),
    ),
)
@click.argument("model", metavar="MODEL")
@training_options.training_options
@progress_display.progress_options
def command(model: str, **params: Any) -> None:
    """Train MODEL on --data and write it to the folder OUT; with --width afresh, at that width.

    OUT holds model.safetensors, options.json, log.jsonl and checkpoints; with --val, best.safetensors.
    Several processes: `accelerate launch -m tsdistill train ...`, or torchrun.
    """
    training_output.check(params)
    options = training_options.resolved(params)
    import torch

    import tsdistill as tsd

    torch.manual_seed(options.seed)
    with progress_display.stage(f"reading {model}"):
        loaded = tsd.load(model, arch=params["arch"], **training_options.load_arguments(params))
        trained, message = training_options.at_width(loaded, params["width"], options.seed)
    identity = {"model": model, **training_options.files(params, "width")}
    with training_output.training_display(options.epochs, options.steps) as (progress, report):
        result = tsd.train(
            trained,
            **training_options.train_arguments(params, options),
            identity=identity,
            progress=progress,
            report=report,
        )
    training_output.show_result(result, message, params["json_file"])
