"""`load`: a model from a file, a catalog or the user's own code."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tsdistill.devices import check_device
from tsdistill.errors import TsdistillError
from tsdistill.models.files import checkpoint, hub_folder, save, size_guard
from tsdistill.models.files.pattern_file import fit_to_file, is_pattern
from tsdistill.models.files.stored_weights import check_finite
from tsdistill.models.info import ModelInfo, attach
from tsdistill.models.input_spec import give_example, override
from tsdistill.models.recognition.lookup import fit, recognise
from tsdistill.models.sources import catalog
from tsdistill.models.sources.hf_inputs import moved_like
from tsdistill.models.sources.specs import in_catalog
from tsdistill.options.data_options import InputOptions
from tsdistill.options.old_names import grouped
from tsdistill.options.option_fields import written


@grouped(inputs=InputOptions)
def load(
    spec: str | Path,
    *,
    arch: str | None = None,
    trust: bool = False,
    device: str | torch.device = "cpu",
    inputs: InputOptions | Mapping[str, Any] = InputOptions(),
) -> nn.Module:
    """Load a model, in eval mode, with its `ModelInfo` attached.

    Args:
        spec: a file (``.pt``, ``.pth``, ``.safetensors``, ...: anybody's weights, or what `save` wrote), a
            folder as the Hugging Face hub has them (``config.json``, weights whole or in shards),
            ``timm:NAME[,key=value...]``, ``torchvision:NAME[,key=value...]``, ``hf:FOLDER``, ``hf:NAME``,
            ``hf:CLASS[,key=value...]``, ``path/to/file.py:factory`` or
            ``package.module:factory``.
        arch: for files, the specification of the architecture, or a file that `save` wrote, whose
            architecture and widths the weights have (a cut model that was trained elsewhere). Without it
            bare weights are recognised when they are those of an architecture of timm or torchvision.
        trust: unpickle whole objects, and import the code that a file names.
        device: where the model goes.
        inputs: how the inputs look, instead of what is known of the model; an example becomes the input that
            the model is run on.

    Raises:
        TsdistillError: there is no such device, or nothing can be loaded from ``spec``; one line with the way
            out.
    """
    check_device(device)
    text = str(spec)
    if os.path.isdir(text) and hub_folder.of_transformers(Path(text)):
        spec = text = f"hf:{text}"
    if isinstance(spec, Path) or _is_file(text):
        _check_forgotten_source(text)
        model, info = _load_file(Path(spec), arch, trust)
    elif arch is not None:
        raise TsdistillError(f"{text} names its architecture itself; an architecture goes with a file only")
    else:
        built = catalog.build(text, weights=True)
        model, info = built.model, ModelInfo(arch=built.arch, input=built.input)
    check_finite(model, text)
    inputs = InputOptions.of(inputs)
    if inputs.example_input is not None and inputs.input_size is not None:
        example, size = written("example_input"), written("input_size")
        raise TsdistillError(f"{example} and {size} both say how inputs look; leave one out")
    stated = {"tokenizer": inputs.tokenizer, "length": inputs.length}
    attach(model, replace(info, input=override(info.input, inputs), name=text, **stated))
    model = model.eval().to(device)
    if inputs.example_input is not None:
        first = next((p for p in model.parameters() if p.is_floating_point()), None)
        give_example(model, moved_like(inputs.example_input, first))
    return model


def _is_file(text: str) -> bool:
    if text.startswith("hf:"):
        return False
    path = Path(text)
    if path.exists() or ":" not in text:
        return True
    return not in_catalog(text) and path.suffix.lower() in checkpoint.SUFFIXES


def _check_forgotten_source(text: str) -> None:
    """Refuse the bare name of an architecture, with a hint, where a file was looked for."""
    if Path(text).exists() or Path(text).suffix.lower() in checkpoint.SUFFIXES or "/" in text:
        return
    import timm

    if timm.is_model(text.partition(".")[0].partition(",")[0]):
        raise TsdistillError(f"{text}: there is no such file; did you mean timm:{text}?")


def _load_file(path: Path, arch: str | None, trust: bool) -> tuple[nn.Module, ModelInfo]:
    contents = hub_folder.read(path, trust=trust) if path.is_dir() else checkpoint.read(path, trust=trust)
    if contents.module is not None:
        return contents.module, ModelInfo(arch=arch, notes=contents.notes)
    if arch is not None and is_pattern(arch):
        model, info = fit_to_file(path, contents, Path(arch), trust=trust)
        return model, replace(info, notes=(*contents.notes, *info.notes))
    if contents.header is not None:
        return save.restore(path, contents, arch=arch, trust=trust)
    if arch is None and contents.arch is not None:
        size_guard.check_spec(contents.arch, contents.tensors, path)
        arch = contents.arch
    model, info = fit(arch, contents.tensors, path) if arch else _recognised(path, contents, trust)
    return model, replace(info, input=contents.input or info.input, notes=(*contents.notes, *info.notes))


def _recognised(path: Path, contents: checkpoint.Contents, trust: bool) -> tuple[nn.Module, ModelInfo]:
    """The architecture that the weights are of; a program of torch.export itself, if it is trusted."""
    try:
        return recognise(contents.tensors, path)
    except TsdistillError:
        if not trust or path.suffix.lower() != checkpoint.PROGRAM:
            raise
    from tsdistill.models.files import exported_program

    note = "the exported program itself was loaded; it can be looked at and run, but not saved as a model"
    return exported_program.program(path), ModelInfo(notes=(note,))
