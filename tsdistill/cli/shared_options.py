"""Options that several commands share, and how they reach the Python API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tsdistill import devices
from tsdistill.cli.command import Decorator, option, options
from tsdistill.cli.field_options import collected, options_of, seed_option
from tsdistill.errors import TsdistillError
from tsdistill.options import AnalysisOptions, DataOptions, InputOptions
from tsdistill.options.option_fields import flag

if TYPE_CHECKING:
    from torch import nn

SAMPLES = 2048
"""At most so many samples of real data are looked at, where no number is given."""

SEQUENCES = 128
"""At most so many sequences of text, likewise: 65,536 tokens at the default length."""

MODEL_HELP = """MODEL is a file (.pt, .pth, .safetensors: weights as timm, Lightning and others save them, or
what `tsdistill prune` wrote), timm:NAME[,key=value...], torchvision:NAME[,key=value...],
hf:FOLDER, hf:NAME or hf:CLASS[,key=value...], path/to/file.py:factory or
package.module:factory."""

DATA_HELP = """A folder of images, a .npz (arrays x and, with labels, y) or .npy, torch/NAME, hfds/NAME and
wds/NAME as timm names them, fashion-mnist:DIR, mnist:DIR, cifar10:DIR, synthetic[:dead-leaves|pink|gaussian].
Of a model of text: FILE.txt, FILE.jsonl[:FIELD], a folder of these, TOKENS.npy, hfds/NAME:FIELD.
Without it, synthetic samples."""

EPILOG = " ".join(MODEL_HELP.split())
"""What stands below the ``--help`` of a command that takes a MODEL."""

arch_option = option(
    "Model",
    "--arch",
    metavar="SPEC",
    help="Architecture of a file with bare weights, written as MODEL; or a file that tsdistill wrote, whose "
    "widths it has.",
)
trust_option = option(
    "Model", "--trust", is_flag=True, help="Unpickle whole modules, import the code a file names."
)
model_options = options(
    arch_option,
    trust_option,
    *options_of(InputOptions),
    option(
        "Model",
        "--device",
        default="cpu",
        show_default=True,
        metavar="DEVICE",
        help="cpu, cuda, cuda:1, mps.",
    ),
)
"""What MODEL is and how its inputs look."""

teacher_options = options(
    option(
        "Teacher",
        "--teacher",
        metavar="MODEL",
        help="Another model whose nodes count; without it, MODEL itself.",
    ),
    option("Teacher", "--teacher-arch", metavar="SPEC", help="Architecture of the teacher's file."),
)
"""``--teacher`` and what goes with it."""


def data_option(help: str = DATA_HELP, *, required: bool = False) -> Decorator:
    """``--data``; ``help`` says what it may be."""
    return option("Data", "--data", metavar="SPEC", required=required, help=" ".join(help.split()))


def json_option(what: str) -> Decorator:
    """``--json``; ``what`` it writes."""
    text = f"Write {what} as JSON; - for stdout."
    return option("Output", "--json", "json_file", metavar="FILE|-", help=text)


data_options = options(
    data_option(),
    *options_of(DataOptions, ("samples", "batch_size", "augment", "strict")),
    seed_option,
)
"""Which samples are looked at, and how."""

sample_options = options(*options_of(DataOptions, ("samples", "batch_size", "strict")), seed_option)
"""How many samples are looked at."""

alignment_options = options(*options_of(AnalysisOptions))
"""How nodes are compared and when which word applies to them."""


def load_arguments(params: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments of `tsdistill.load`, without the architecture.

    Raises:
        TsdistillError: there is no such device, ``--teacher-arch`` has no teacher, or ``--example-input``
            cannot be read.
    """
    if params.get("teacher_arch") and not params.get("teacher"):
        raise TsdistillError("--teacher-arch goes with --teacher; give the teacher's file as well")
    inputs = input_values(params)
    return {"trust": params["trust"], "device": devices.check_device(params["device"]), "inputs": inputs}


def input_values(params: dict[str, Any]) -> InputOptions:
    """The options of a model's inputs; the file of ``--example-input`` is read.

    Raises:
        TsdistillError: it cannot be read, or ``--input-size`` says something else about the inputs.
    """
    if params.get("example_input") is None:
        return collected(InputOptions, params)
    if params["input_size"] is not None:
        example, size = flag("example_input"), flag("input_size")
        raise TsdistillError(f"{example} and {size} both say how inputs look; leave one out")
    from tsdistill.data.examples import read_example

    return collected(InputOptions, params, example_input=read_example(params["example_input"]))


def load_models(model: str, params: dict[str, Any]) -> tuple[nn.Module, nn.Module | None]:
    """Load MODEL and, with ``--teacher``, the teacher, as the shared options in ``params`` say.

    Raises:
        TsdistillError: a model cannot be loaded, or there is no such device.
    """
    import tsdistill as tsd

    arguments = load_arguments(params)
    loaded = tsd.load(model, arch=params["arch"], **arguments)
    if not params["teacher"]:
        return loaded, None
    return loaded, tsd.load(params["teacher"], arch=params["teacher_arch"], **arguments)


def data_values(params: dict[str, Any], model: nn.Module | None = None) -> DataOptions:
    """The options of reading samples.

    Without ``--samples``: at most 2,048 samples of real data (128 sequences of text), or the default number
    of synthetic ones.

    Args:
        params: of the command.
        model: the model that reads them, where it is loaded.
    """
    synthetic = params["data"] is None or params["data"].partition(":")[0] == "synthetic"
    samples = params["samples"]
    if samples is None and not synthetic:
        from tsdistill.data.text.text_sources import is_text

        text = is_text(params["data"]) or (model is not None and _reads_text(model))
        samples = SEQUENCES if text else SAMPLES
    names = ("batch_size", "augment", "strict")
    return collected(DataOptions, {name: params.get(name) for name in names}, samples=samples)


def _reads_text(model: nn.Module) -> bool:
    from tsdistill.data.text.text_spec import TextSpec, input_spec

    return isinstance(input_spec(model, InputOptions()), TextSpec)


def analysis_values(params: dict[str, Any]) -> AnalysisOptions:
    """The options of comparing nodes.

    Raises:
        TsdistillError: ``--pair`` twice for the same group.
    """
    return collected(AnalysisOptions, params, pairs=_pairs(params["pairs"]) or None)


def _pairs(pairs: tuple[tuple[str, str], ...]) -> dict[str, str]:
    chosen: dict[str, str] = {}
    for student, teacher in pairs:
        if chosen.setdefault(student, teacher) != teacher:
            raise TsdistillError(
                f"--pair {student}={teacher}: {student} is paired with {chosen[student]} already; give one"
            )
    return chosen
