"""``tsdistill export``: a model for other engines, or as Python source."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tsdistill.cli import output, progress_display, shared_options
from tsdistill.cli.command import Command, option

if TYPE_CHECKING:
    from tsdistill import Exported


@click.command(
    "export",
    cls=Command,
    epilog=shared_options.EPILOG,
    examples=(
        ("tsdistill export small.safetensors -o small.onnx", "ONNX, for any batch size"),
        ("tsdistill export small.safetensors -o small.pt2 --static-batch", "torch.export, one sample"),
        ("tsdistill export small.safetensors -o small.py", "Python source with weights beside it"),
    ),
)
@click.argument("model", metavar="MODEL")
@option(
    "Output",
    "-o",
    "--output",
    "out",
    metavar="FILE|FOLDER",
    required=True,
    help="Where to; the suffix names the format: .onnx, .pt2 (torch.export), .ts (TorchScript), .py, or that "
    "of a plugin; without one, the folder of save_pretrained for a model of transformers.",
)
@option(
    "Output",
    "--static-batch",
    is_flag=True,
    help="Fix the batch at one sample; without it any number will do.",
)
@option(
    "Output",
    "--opset",
    type=int,
    metavar="N",
    help="Version of ONNX's operators; PyTorch's choice without it.",
)
@shared_options.data_option(
    "Data, whose first sample is the example that is exported (of text a sequence of --length tokens)."
)
@shared_options.json_option("the outcome")
@shared_options.model_options
@progress_display.progress_options
def command(
    model: str, out: str, static_batch: bool, opset: int | None, json_file: str | None, **params: Any
) -> None:
    """Write MODEL in a format that works without tsdistill, and compare the two on random inputs.

    A .py is Python source that builds the model, to run or to train further, with torch and timm or
    torchvision alone; its weights go to a .safetensors beside it. ONNX takes the extra tsdistill[export].
    """
    from tsdistill.exporting.exporter import check_export, files_of

    check_export(out, opset=opset)
    output.check(
        *([output.Output("-o", file) for file in files_of(out)] or [output.Output("-o", out, ("*",))]),
        output.Output("--json", json_file),
    )
    arguments = shared_options.load_arguments(params)
    import tsdistill as tsd

    with progress_display.stage(f"reading {model}"):
        loaded = tsd.load(model, arch=params["arch"] if Path(model).is_file() else None, **arguments)
    with progress_display.stage(f"writing {out}"):
        done = tsd.export(loaded, out, dynamic_batch=not static_batch, opset=opset, data=params["data"])
    if json_file:
        output.write_json(json_file, {"format": 1, "kind": "export", "export": done.to_dict()})
    if json_file != output.STDOUT:
        _show(done)


def _show(done: Exported) -> None:
    from tsdistill.report.numbers import size

    console = output.console()
    version = f" opset {done.opset}" if done.opset else ""
    check = done.check
    batch = "any batch size" if done.dynamic_batch else "one batch size only"
    if check is not None and not done.dynamic_batch:
        batch = f"batches of {check.batches[0]} only"
    files = " and ".join(str(file) for file in done.files)
    console.print(f"wrote   {files}: {done.format}{version}, {size(done.bytes)}, {batch}")
    console.print(f"needs   {', '.join(done.needs)}")
    if check is None:
        console.print("check   none: it cannot be run on this machine")
        return
    batches = ", ".join(map(str, check.batches))
    console.print(
        f"check   largest difference {check.difference:.2g} of outputs up to {check.largest:.2g}, "
        f"in {check.by} on {check.inputs} random inputs, batches of {batches}"
    )
