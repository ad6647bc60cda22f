"""``tsdistill train``: a model on labels, without a teacher."""

from __future__ import annotations

from typing import Any

import click

from tsdistill.cli import options, progress_display, training_options, training_output


@click.command("train", epilog=" ".join(options.MODEL_HELP.split()))
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
