"""What ``tsdistill distill`` and ``tsdistill train`` have in common: options, and how these reach Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tsdistill.cli import options
from tsdistill.cli.option_types import SEED, Number
from tsdistill.errors import TsdistillError

if TYPE_CHECKING:
    from torch import nn

    from tsdistill.distillation.options import Options

F = TypeVar("F", bound=Callable[..., Any])

_WHERE = (
    click.option("--data", metavar="SPEC", required=True, help=" ".join(options.DATA_HELP.split()[:-4])),
    click.option("--val", "held_out", metavar="SPEC", help="Data to judge each epoch on, likewise."),
    click.option("-o", "--output", "out", metavar="OUT", required=True, help="The folder of the run."),
    click.option(
        "--width",
        metavar="X|FILE",
        help="Begin afresh, X times as wide (2.0 over-realised, 0.5 slimmed) or as a plan of `prune` says.",
    ),
    click.option(
        "--json", "json_file", metavar="FILE|-", help="Write options, log and result as JSON; - for stdout."
    ),
    click.option(
        "--resume", is_flag=True, help="Go on with the run in OUT; start afresh where there is none."
    ),
    click.option(
        "--config", metavar="FILE", help="Options from .toml, .yaml or .json; flags come before them."
    ),
    click.option(
        "--set", "extra", multiple=True, metavar="NAME=VALUE", help="Any other option of that file."
    ),
)

_HOW = (
    click.option("--epochs", type=click.IntRange(min=1), metavar="N", help="Passes over the data; 10."),
    click.option("--steps", type=click.IntRange(min=1), metavar="N", help="Stop after so many updates."),
    click.option("--batch-size", type=click.IntRange(min=1), metavar="N", help="Over all processes; 128."),
    click.option("--accumulate", type=click.IntRange(min=1), metavar="N", help="Batches in one update; 1."),
    click.option("--samples", type=click.IntRange(min=1), metavar="N", help="Use so many of the data."),
    click.option(
        "--loss",
        multiple=True,
        metavar="[W*]NAME[@OUTPUT]",
        help="soft-targets:T=4, 0.5*mse@boxes ... (see `tsdistill plugins`); again for a weighted sum.",
    ),
    *options.OUTPUTS,
    click.option("--renew-steps", type=click.IntRange(min=0), metavar="N", help="Renew matches more often."),
    click.option("--augment", metavar="NAME[+NAME]", help="Augmentation (see `tsdistill plugins`)."),
    click.option("--mixup", type=Number(min=0), metavar="A", help="timm's mixup alpha."),
    click.option("--cutmix", type=Number(min=0), metavar="A", help="timm's cutmix alpha."),
    click.option("--label-smoothing", type=Number(), metavar="P", help="Spread so much of each label."),
    click.option("--optimizer", metavar="NAME", help="timm's name of it; adamw."),
    click.option("--lr", type=Number(), metavar="X", help="Learning rate; 0.1 for SGD, 0.001 for others."),
    click.option("--weight-decay", type=Number(min=0), metavar="X", help="Of weights; 0.01."),
    click.option("--sched", metavar="NAME", help="timm's schedule, or none; cosine."),
    click.option("--warmup", type=Number(min=0), metavar="E", help="Epochs in which the rate rises."),
    click.option("--clip", type=Number(), metavar="X", help="Largest norm of the gradient."),
    click.option("--ema", type=Number(), metavar="D", help="Keep a moving average of this decay."),
    click.option(
        "--freeze-bn",
        type=click.Choice(("auto", "yes", "no")),
        help="Batch norms keep their statistics; auto: where a pass in train mode alone does much harm.",
    ),
    click.option("--amp", type=click.Choice(("no", "bf16", "fp16")), help="Precision of forward passes; no."),
    click.option("--workers", type=click.IntRange(min=0), metavar="N", help="Processes that read data; 0."),
    click.option("--seed", type=SEED, metavar="N", help="Of everything random; 0."),
    click.option("--strict", is_flag=True, default=None, help="A sample that cannot be read is an error."),
    click.option("--track/--no-track", default=None, help="Follow the alignment with the teacher."),
    click.option("--tracker", metavar="NAME", help="Send figures to tensorboard, wandb ... as well."),
    click.option(
        "--checkpoint-steps", type=click.IntRange(min=1), metavar="N", help="Between checkpoints; 500."
    ),
)

_MODEL = tuple(
    click.option(*names, **how)
    for names, how in (
        (("--arch",), {"metavar": "SPEC", "help": "Architecture of a file with bare weights, as MODEL."}),
        (("--trust",), {"is_flag": True, "help": "Unpickle whole modules, import the code a file names."}),
        (("--input-size",), {"type": options.Size(), "metavar": "CxHxW", "help": "Shape of one sample."}),
        (("--mean",), {"type": options.Figures(), "metavar": "M,M,M", "help": "Per-channel mean of inputs."}),
        (("--std",), {"type": options.Figures(), "metavar": "S,S,S", "help": "Per-channel deviation."}),
        (("--interpolation",), {"type": click.Choice(options.INTERPOLATIONS), "help": "Of resizing."}),
        (("--device",), {"metavar": "DEVICE", "help": "cpu, cuda, cuda:1, mps; a GPU where there is one."}),
    )
)

NAMES = (
    "epochs", "steps", "batch_size", "accumulate", "samples", "outputs", "ignore_index", "renew_steps",
    "augment", "mixup", "cutmix", "label_smoothing", "optimizer", "lr", "weight_decay", "sched", "warmup",
    "clip", "ema", "freeze_bn", "amp", "workers", "seed", "strict", "track", "tracker",
    "checkpoint_steps", "device",
)  # fmt: skip
"""Flags that are options of the same name."""


def training_options(command: F) -> F:
    """Add what both commands take."""
    return options.add_options((*_WHERE, *_HOW, *_MODEL), command)


def resolved(given: dict[str, Any], *, flags: tuple[str, ...] = NAMES) -> Any:
    """The options: the file's, those of ``--set``, and before both the flags that were given.

    Raises:
        TsdistillError: a name or value that does not exist, a file that cannot be read.
    """
    from tsdistill.distillation import Options, read_options

    found: dict[str, Any] = {}
    if given["config"]:
        found.update(Options.of(read_options(given["config"]), given["config"]).to_dict())
    found.update(_extra(given["extra"]))
    found.update({name: given[name] for name in flags if given.get(name) is not None})
    if given["loss"]:
        found["loss"] = list(given["loss"])
    return Options.of(found)


def _extra(pairs: tuple[str, ...]) -> dict[str, Any]:
    import tomllib

    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise TsdistillError(f"--set {pair}: write --set NAME=VALUE, such as --set momentum=0.95")
        try:
            found[name.strip()] = tomllib.loads(f"value = {value}")["value"]
        except (tomllib.TOMLDecodeError, RecursionError):
            found[name.strip()] = value
    return found


def loading(given: dict[str, Any]) -> dict[str, Any]:
    """What ``tsdistill.load`` takes by name, architecture and device aside."""
    return {name: given[name] for name in ("trust", "input_size", "mean", "std", "interpolation")}


def at_width(model: nn.Module, width: str | None, seed: int) -> tuple[nn.Module, str]:
    """``model``, or with ``--width`` a fresh one of its architecture; and what to say of it.

    Raises:
        TsdistillError: the width is neither a factor nor a plan, or the architecture does not run at it.
    """
    if width is None:
        return model, ""
    import tsdistill as tsd
    from tsdistill.distillation.students import student_of

    try:
        wanted: Any = float(width)
    except ValueError:
        if not Path(width).exists():
            raise TsdistillError(
                f"--width {width}: give a factor such as 2.0, or a plan that `prune --save-plan` wrote"
            ) from None
        wanted = tsd.PruningPlan.from_json(Path(width))
    made = student_of(model, wanted, seed=seed)
    return made.model, made.words


def running(given: dict[str, Any], how: Options) -> dict[str, Any]:
    """What ``distill`` and ``train`` take of the command line beside the models."""
    shared = {name: given[name] for name in ("data", "out", "held_out", "resume")}
    return {**shared, "options": how}


def files(given: dict[str, Any], *names: str) -> dict[str, Any]:
    """What makes the run what it is besides its options: models and data as they were named."""
    return {name: given[name] for name in (*names, "held_out") if given.get(name)}
