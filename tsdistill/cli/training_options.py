"""Options shared by ``tsdistill distill`` and ``tsdistill train``, and the Python arguments made of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsdistill.cli import shared_options
from tsdistill.cli.command import option, options
from tsdistill.cli.config_file import file_options
from tsdistill.cli.field_options import options_of
from tsdistill.errors import TsdistillError
from tsdistill.options import InputOptions, TrainOptions
from tsdistill.options.option_fields import known_fields

if TYPE_CHECKING:
    from torch import nn

_TEACHER = ("cache_teacher", "shard_teacher")

NAMES = tuple(name for name, known in known_fields(TrainOptions).items() if known.field.metavar is not None)
"""Flags that are options of the same name."""

training_options = options(
    shared_options.data_option(
        shared_options.DATA_HELP.replace("Without it, synthetic samples.", ""), required=True
    ),
    option("Data", "--val", "held_out", metavar="SPEC", help="Data to judge each epoch on, likewise."),
    option("Output", "-o", "--output", "out", metavar="OUT", required=True, help="The folder of the run."),
    option(
        "Model",
        "--width",
        metavar="X|FILE",
        help="Begin afresh, X times as wide (2.0 over-realised, 0.5 slimmed) or as a plan of `prune` says.",
    ),
    shared_options.json_option("options, log and result"),
    option(
        "Output",
        "--resume",
        is_flag=True,
        help="Go on with the run in OUT; start afresh where there is none.",
    ),
    option(
        "Other",
        "--set",
        "extra",
        multiple=True,
        metavar="NAME=VALUE",
        help="Any other option of the file of --config.",
    ),
    *options_of(TrainOptions, [name for name in NAMES if name not in _TEACHER]),
    shared_options.arch_option,
    shared_options.trust_option,
    *options_of(InputOptions, ("input_size", "mean", "std", "interpolation", "tokenizer", "length")),
)
"""What ``distill`` and ``train`` both take."""

teacher_options = options(*options_of(TrainOptions, _TEACHER))
"""What is done with a teacher's outputs and weights."""


def resolved(params: dict[str, Any]) -> TrainOptions:
    """The options: the file's, those of ``--set``, and before both the flags that were given.

    Raises:
        TsdistillError: a name or value that does not exist.
    """
    chosen = {**file_options(), **_extra(params["extra"])}
    chosen.update({name: params[name] for name in NAMES if params.get(name) not in (None, ())})
    return TrainOptions.of(chosen)


def _extra(pairs: tuple[str, ...]) -> dict[str, Any]:
    import tomllib

    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise TsdistillError(f"--set {pair}: write --set NAME=VALUE, such as --set momentum=0.95")
        try:
            options[name.strip()] = tomllib.loads(f"value = {value}")["value"]
        except (tomllib.TOMLDecodeError, RecursionError):
            options[name.strip()] = value
    return options


def load_arguments(params: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments of `tsdistill.load`, without architecture and device."""
    return {"trust": params["trust"], "inputs": shared_options.input_values(params)}


def at_width(model: nn.Module, width: str | None, seed: int) -> tuple[nn.Module, str]:
    """``model``, or with ``--width`` a fresh one of its architecture; and a message.

    Args:
        model: the model as loaded.
        width: the value of ``--width``: a factor or the path of a plan.
        seed: of the initial weights.

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
    student = student_of(model, wanted, seed=seed)
    return student.model, student.words


def train_arguments(params: dict[str, Any], options: TrainOptions) -> dict[str, Any]:
    """The arguments of `tsdistill.distill` and `tsdistill.train` apart from the models."""
    shared = {name: params[name] for name in ("data", "out", "held_out", "resume")}
    return {**shared, "options": options}


def files(params: dict[str, Any], *names: str) -> dict[str, Any]:
    """The models and data of a run as named on the command line, which ``--resume`` compares."""
    return {name: params[name] for name in (*names, "held_out") if params.get(name)}
