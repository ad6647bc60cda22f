"""What ``tsdistill distill`` and ``tsdistill train`` have in common: options, and how these reach Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tsdistill.cli import shared_options
from tsdistill.cli.command import Option
from tsdistill.cli.config_file import file_options
from tsdistill.cli.field_options import add_options, options_of
from tsdistill.errors import TsdistillError
from tsdistill.options import InputOptions, TrainOptions
from tsdistill.options.option_fields import known_fields

if TYPE_CHECKING:
    from torch import nn

F = TypeVar("F", bound=Callable[..., Any])

DATA_HELP = shared_options.DATA_HELP.replace("Without it, synthetic samples.", "")


def _option(*names: str, section: str, **known: Any) -> Callable[[F], F]:
    return click.option(*names, cls=Option, section=section, **known)


_WHERE = (
    shared_options.data_option(DATA_HELP, required=True),
    _option(
        "--val", "held_out", section="Data", metavar="SPEC", help="Data to judge each epoch on, likewise."
    ),
    _option(
        "-o",
        "--output",
        "out",
        section="Output",
        metavar="OUT",
        required=True,
        help="The folder of the run.",
    ),
    _option(
        "--width",
        section="Model",
        metavar="X|FILE",
        help="Begin afresh, X times as wide (2.0 over-realised, 0.5 slimmed) or as a plan of `prune` says.",
    ),
    shared_options.json_option("options, log and result"),
    _option(
        "--resume",
        section="Output",
        is_flag=True,
        help="Go on with the run in OUT; start afresh where there is none.",
    ),
    _option(
        "--set",
        "extra",
        section="Other",
        multiple=True,
        metavar="NAME=VALUE",
        help="Any other option of the file of --config.",
    ),
)

_TEACHER = ("cache_teacher", "shard_teacher")

NAMES = tuple(name for name, known in known_fields(TrainOptions).items() if known.field.metavar is not None)
"""Flags that are options of the same name."""

_LOOK = ("input_size", "mean", "std", "interpolation")


def training_options(command: F) -> F:
    """Add what both commands take."""
    own = options_of(TrainOptions, [name for name in NAMES if name not in _TEACHER])
    model = (shared_options.arch_option, shared_options.trust_option, *options_of(InputOptions, _LOOK))
    return add_options((*_WHERE, *own, *model), command)


def teacher_options(command: F) -> F:
    """Add what is done with a teacher's outputs and weights."""
    return add_options(options_of(TrainOptions, _TEACHER), command)


def resolved(given: dict[str, Any]) -> TrainOptions:
    """The options: the file's, those of ``--set``, and before both the flags that were given.

    Raises:
        TsdistillError: a name or value that does not exist.
    """
    chosen = {**file_options(), **_extra(given["extra"])}
    chosen.update({name: given[name] for name in NAMES if given.get(name) not in (None, ())})
    return TrainOptions.of(chosen)


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
    return {"trust": given["trust"], "inputs": shared_options.look(given)}


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


def running(given: dict[str, Any], how: TrainOptions) -> dict[str, Any]:
    """What ``distill`` and ``train`` take of the command line beside the models."""
    shared = {name: given[name] for name in ("data", "out", "held_out", "resume")}
    return {**shared, "options": how}


def files(given: dict[str, Any], *names: str) -> dict[str, Any]:
    """What makes the run what it is besides its options: models and data as they were named."""
    return {name: given[name] for name in (*names, "held_out") if given.get(name)}
