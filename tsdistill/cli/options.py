"""Options that several commands share, and how they reach the Python API."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tsdistill import devices
from tsdistill.cli.option_types import SEED, Figures, Number, Pair, Positions, Size
from tsdistill.errors import TsdistillError

if TYPE_CHECKING:
    from torch import nn

F = TypeVar("F", bound=Callable[..., Any])

SAMPLES = 2048
BATCH_SIZE = 32
INTERPOLATIONS = ("bicubic", "bilinear", "nearest")

MODEL_HELP = """MODEL is a file (.pt, .pth, .safetensors: weights as timm, Lightning and others save them, or
what `tsdistill prune` wrote), timm:NAME[,key=value...], torchvision:NAME[,key=value...],
hf:FOLDER, hf:NAME or hf:CLASS[,key=value...], path/to/file.py:factory or
package.module:factory."""

DATA_HELP = """A folder of images, a .npz (arrays x and, with labels, y) or .npy, torch/NAME, hfds/NAME and
wds/NAME as timm names them, fashion-mnist:DIR, mnist:DIR, cifar10:DIR, synthetic[:dead-leaves|pink|gaussian].
Without it, synthetic samples."""


_MODEL = (
    click.option(
        "--arch", metavar="SPEC", help="Architecture of a file with bare weights, written as MODEL."
    ),
    click.option("--trust", is_flag=True, help="Unpickle whole modules, import the code a file names."),
    click.option("--input-size", type=Size(), metavar="CxHxW", help="Shape of one sample; 224 for a square."),
    click.option("--mean", type=Figures(), metavar="M,M,M", help="Per-channel mean of the inputs."),
    click.option(
        "--std", type=Figures(), metavar="S,S,S", help="Per-channel standard deviation of the inputs."
    ),
    click.option("--interpolation", type=click.Choice(INTERPOLATIONS), help="How images are resized."),
    click.option(
        "--example-input",
        metavar="FILE",
        help="One input (batch 1) where a size does not say it: .pt, .npy, .npz or .safetensors with a "
        "tensor, a tuple of arguments or arguments by name; or a function, path/to/file.py:function.",
    ),
    click.option(
        "--device", default="cpu", show_default=True, metavar="DEVICE", help="cpu, cuda, cuda:1, mps."
    ),
)

_TEACHER = (
    click.option(
        "--teacher", metavar="MODEL", help="Another model whose nodes count; without it, MODEL itself."
    ),
    click.option("--teacher-arch", metavar="SPEC", help="Architecture of the teacher's file."),
)

OUTPUTS = (
    click.option(
        "--outputs",
        metavar="NAME=KIND,...",
        help="What an output holds, where it is not plain: classes, classes:DIM, values, or unused.",
    ),
    click.option("--ignore-index", type=int, metavar="N", help="The label that counts for nothing; -100."),
)
"""How outputs and labels are read, for `compare`, `distill` and `train`."""

_SAMPLES = (
    click.option(
        "--samples",
        type=click.IntRange(min=2),
        metavar="N",
        help="How many samples are looked at; at most 2048 (synthetic: 512) without it.",
    ),
    click.option(
        "--batch-size",
        type=click.IntRange(min=1),
        default=BATCH_SIZE,
        show_default=True,
        metavar="N",
        help="Samples in one pass.",
    ),
    click.option(
        "--seed",
        type=SEED,
        default=0,
        show_default=True,
        metavar="N",
        help="Of everything random.",
    ),
    click.option(
        "--strict",
        is_flag=True,
        help="A sample that cannot be read is an error; without it, it is left out, counted and named.",
    ),
)

_DATA = (
    click.option("--data", metavar="SPEC", help=" ".join(DATA_HELP.split())),
    *_SAMPLES[:2],
    click.option("--augment", metavar="NAME", help="Augmentation (see `tsdistill plugins`)."),
    *_SAMPLES[2:],
)

_ALIGNMENT = (
    click.option(
        "--metric",
        multiple=True,
        metavar="NAME",
        help="Alignment metric (see `tsdistill plugins`), correlation without it. Give it again for more; "
        "the first that compares nodes finds the best matches.",
    ),
    click.option(
        "--pair",
        type=Pair(),
        multiple=True,
        metavar="STUDENT_GROUP=TEACHER_GROUP",
        help="Lay these two groups beside one another, whatever matching says. Give it again for more.",
    ),
    click.option(
        "--positions",
        type=Positions(),
        default="auto",
        show_default=True,
        metavar="auto|all|N",
        help="Positions of a feature map that are looked at in each sample.",
    ),
    click.option(
        "--aligned",
        type=Number(-1, 1),
        metavar="X",
        help="Similarity to a teacher node from which a node is aligned; 0.9 without it.",
    ),
    click.option(
        "--weak",
        type=Number(0, 1),
        metavar="X",
        help="Part of the group's largest strength below which a node is weak; 0.01 without it.",
    ),
    click.option(
        "--redundant",
        type=Number(0, 1),
        metavar="X",
        help="R² from the group's other nodes at which a node is redundant; 0.99 without it.",
    ),
)


def model_options(command: F) -> F:
    """Add the options that say what MODEL is and how its inputs look."""
    return add_options(_MODEL, command)


def teacher_options(command: F) -> F:
    """Add ``--teacher`` and what goes with it."""
    return add_options(_TEACHER, command)


def data_options(command: F) -> F:
    """Add the options that say which samples are looked at, and how."""
    return add_options(_DATA, command)


def sample_options(command: F) -> F:
    """Add the options that say how many samples are looked at."""
    return add_options(_SAMPLES, command)


def alignment_options(command: F) -> F:
    """Add the options that say how nodes are compared and when which word applies to them."""
    return add_options(_ALIGNMENT, command)


def add_options(options: tuple[Callable[[F], F], ...], command: F) -> F:
    """Add options to a command, in their order."""
    for option in reversed(options):
        command = option(command)
    return command


def loading(given: dict[str, Any]) -> dict[str, Any]:
    """What `tsdistill.load` takes by name, the architecture aside.

    Raises:
        TsdistillError: there is no such device, or ``--teacher-arch`` has no teacher.
    """
    if given["teacher_arch"] and not given["teacher"]:
        raise TsdistillError("--teacher-arch goes with --teacher; give the teacher's file as well")
    looks = {name: given[name] for name in ("input_size", "mean", "std", "interpolation")}
    return {"trust": given["trust"], "device": devices.check_device(given["device"]), **looks}


def load_models(model: str, given: dict[str, Any]) -> tuple[nn.Module, nn.Module | None]:
    """Load MODEL and, with ``--teacher``, the teacher, as the shared options in ``given`` say.

    Raises:
        TsdistillError: a model cannot be loaded, or there is no such device.
    """
    import tsdistill as tsd

    how = loading(given)
    example = example_of(given)
    loaded = with_example(tsd.load(model, arch=given["arch"], **how), example)
    if not given["teacher"]:
        return loaded, None
    return loaded, with_example(tsd.load(given["teacher"], arch=given["teacher_arch"], **how), example)


def example_of(given: dict[str, Any]) -> Any:
    """What ``--example-input`` names, read; ``None`` without it.

    Raises:
        TsdistillError: it cannot be read, or ``--input-size`` says something else about the inputs.
    """
    if given["example_input"] is None:
        return None
    if given["input_size"] is not None:
        raise TsdistillError("--example-input and --input-size both say how inputs look; leave one out")
    from tsdistill.data.examples import read_example

    return read_example(given["example_input"])


def with_example(model: nn.Module, example: Any) -> nn.Module:
    """``model``, which is run on ``example`` from now on where there is one."""
    if example is not None:
        from tsdistill.models.input_spec import give_example
        from tsdistill.runtime.forward import to_model

        give_example(model, to_model(example, model))
    return model


def reading(given: dict[str, Any]) -> dict[str, Any]:
    """How samples are read: what `tsdistill.open_data` takes by name.

    Without ``--samples`` that is at most 2,048 of real data, and as many synthetic ones as the API makes.
    """
    synthetic = given["data"] is None or given["data"].partition(":")[0] == "synthetic"
    samples = given["samples"] if given["samples"] is not None or synthetic else SAMPLES
    looks = {"samples": samples, "batch_size": given["batch_size"], "seed": given["seed"]}
    return {**looks, **({"strict": True} if given.get("strict") else {})}


def observing(given: dict[str, Any]) -> dict[str, Any]:
    """How a model is looked at: what `tsdistill.analyze` takes by name, without options not given."""
    return {**reading(given), **({"augment": given["augment"]} if given["augment"] is not None else {})}


def comparing(given: dict[str, Any]) -> dict[str, Any]:
    """How nodes are compared: what else `tsdistill.analyze` takes by name, without options not given.

    Raises:
        TsdistillError: ``--pair`` without a teacher, or twice for the same group.
    """
    from tsdistill.alignment import Thresholds

    chosen: dict[str, Any] = {"positions": given["positions"]}
    if given["metric"]:
        chosen["metric"] = given["metric"]
    if given["pair"]:
        chosen["pairs"] = _pairs(given["pair"])
    limits = {name: given[name] for name in ("aligned", "weak", "redundant") if given[name] is not None}
    if limits:
        chosen["thresholds"] = Thresholds(**limits)
    return chosen


def _pairs(given: tuple[tuple[str, str], ...]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for student, teacher in given:
        if pairs.setdefault(student, teacher) != teacher:
            raise TsdistillError(
                f"--pair {student}={teacher}: {student} is paired with {pairs[student]} already; give one"
            )
    return pairs
