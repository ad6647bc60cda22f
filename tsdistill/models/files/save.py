"""Our own files: weights of any widths with the architecture and what cuts changed, without pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.files import atomic_file, atomic_folder
from tsdistill.models.files import header, size_guard
from tsdistill.models.files.checkpoint import HEADER, SAFETENSORS, Contents, check_name
from tsdistill.models.files.header import Header
from tsdistill.models.files.rebuild import apply, reconcile
from tsdistill.models.files.stored_weights import check_finite
from tsdistill.models.files.tensor_file import write_tensors
from tsdistill.models.info import ModelInfo
from tsdistill.models.origin import info_of
from tsdistill.models.replacements import replacements_of
from tsdistill.models.sources import catalog, hf_config, hf_source
from tsdistill.models.sources.hf_inputs import is_transformers
from tsdistill.models.sources.specs import in_catalog
from tsdistill.options.option_fields import written
from tsdistill.output_paths import check_folder, check_place
from tsdistill.torch_private import buffers_of, temporary_buffers_of

OUTPUTS = (SAFETENSORS, ".pt", ".pth")


def check_output(path: str | Path) -> Path:
    """Refuse a path that `save` could not write to, before any work is done.

    Args:
        path: a file, or a folder without a suffix, which must be empty or not be there.

    Raises:
        TsdistillError: an unknown suffix, a name that no reader takes, a folder that is missing, cannot be
            written in, or is not empty.
    """
    path = Path(path)
    if not path.suffix:
        return check_folder(path, empty=True)
    if path.suffix.lower() not in OUTPUTS:
        raise TsdistillError(
            f"{path}: a model is written to a file that ends in {', '.join(OUTPUTS)}, or "
            "to a folder without a suffix if it is one of transformers"
        )
    check_name(path)
    return check_place(path)


def save(model: nn.Module, path: str | Path, *, arch: str | None = None, card: str | None = None) -> None:
    """Write ``model`` to ``path`` (``.safetensors`` or ``.pt``) so that `load` gives it back bit for bit.

    A path without a suffix becomes the folder of ``save_pretrained`` of a model of transformers, with its
    tokenizer, which ``from_pretrained`` reads without tsdistill.

    The architecture is built once more without weights and given the model's widths, so what could not be
    loaded again is not written. Nothing is left behind when it fails.

    Args:
        model: a model that `load` or a cut made, one of a class of transformers, or any other with ``arch``.
        path: where to; replaced in one step when it exists.
        arch: specification of the architecture, when the model does not know it or it is another.
        card: text of the model card in a folder.

    Raises:
        TsdistillError: the architecture is not known or does not give this model, NaN or infinite weights, or
            ``path`` cannot be written; for a folder, no model of transformers, or widths that its
            configuration cannot say.
    """
    path = check_output(path)
    if not path.suffix:
        check_finite(model, "the model")
        _save_folder(model, path, card)
        return
    info = info_of(model)
    spec = arch or info.arch or hf_source.spec_of(model)
    if spec is None:
        raise TsdistillError(
            f"{path} is not written: nothing says how to build this {type(model).__name__} again; give "
            f"{written('arch', 'timm:NAME')}, torchvision:NAME or a factory of your own as file.py:factory"
        )
    check_finite(model, "the model")
    info = reconcile(model, replace(info, arch=spec))
    tensors, tied = _tensors(model, info.buffers)
    orders = {name: order for name, t in tensors.items() if (order := _order(t)) is not None}
    text = header.dump(Header(info, tied, orders, tuple(replacements_of(model))))
    stored = {name: _dense(t) for name, t in tensors.items()}
    _write(path, stored, text)


def _save_folder(model: nn.Module, path: Path, card: str | None) -> None:
    if not is_transformers(model):
        raise TsdistillError(
            f"{path}: a folder is for models of transformers; name a file that ends in {', '.join(OUTPUTS)}"
        )
    with atomic_folder(path) as folder:
        hf_config.save_pretrained(model, folder, path, card=card)


def restore(path: Path, contents: Contents, *, arch: str | None, trust: bool) -> tuple[nn.Module, ModelInfo]:
    """The model of a file that `save` wrote.

    Args:
        path: the file, for messages.
        contents: what was read from it.
        arch: specification of the architecture, in place of the one that the file names.
        trust: import the code that the file names.

    Raises:
        TsdistillError: damaged metadata, tensors that do not go with it, or code of the user's own that was
            neither named again (``arch``) nor trusted.
    """
    stored = header.parse(contents.header, path)
    spec = arch or stored.info.arch
    assert spec is not None
    if arch is None and not in_catalog(spec) and not trust:
        raise TsdistillError(
            f"{path} was made by code outside the catalogs, {spec}; name it again with "
            f"{written('arch')}, or give {written('trust', True)} to import what the file names"
        )
    if arch is None and in_catalog(spec):
        size_guard.check_spec(spec, contents.tensors, path)
    built = catalog.build(spec, weights=False)
    tensors = {name: _ordered(t, stored.orders.get(name), path) for name, t in contents.tensors.items()}
    for alias, name in stored.tied.items():
        if name not in tensors or alias in tensors:
            raise TsdistillError(f"{path}: damaged metadata: {alias} cannot be shared with {name}")
        tensors[alias] = tensors[name]
    info = replace(stored.info, arch=built.arch)
    apply(built.model, tensors, info, stored.tied, path, stored.replaced)
    return built.model, info


def _tensors(model: nn.Module, extra: tuple[str, ...]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Everything to store by name, each shared parameter once, and which other names share it."""
    tensors: dict[str, torch.Tensor] = {}
    tied: dict[str, str] = {}
    first: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in first:
            tied[name] = first[id(parameter)]
        else:
            first[id(parameter)] = name
            tensors[name] = parameter.detach()
    for prefix, module in model.named_modules(remove_duplicate=False):
        for leaf, buffer in buffers_of(module).items():
            name = f"{prefix}.{leaf}" if prefix else leaf
            if buffer is not None and (leaf not in temporary_buffers_of(module) or name in extra):
                tensors[name] = buffer.detach()
    return tensors, tied


def _order(tensor: torch.Tensor) -> tuple[int, ...] | None:
    """The dimensions from the outermost in memory to the innermost, when that is not 0, 1, 2, ..."""
    if tensor.is_contiguous() or tensor.layout != torch.strided:
        return None
    strides = tensor.stride()
    order = tuple(sorted(range(tensor.dim()), key=lambda d: (-strides[d], d)))
    return order if tensor.permute(order).is_contiguous() else None


def _dense(tensor: torch.Tensor) -> torch.Tensor:
    """A row-major copy on the CPU that owns its memory."""
    return tensor.to("cpu").clone(memory_format=torch.contiguous_format)


def _ordered(tensor: torch.Tensor, order: tuple[int, ...] | None, path: Path) -> torch.Tensor:
    """A copy that lies in memory as it did when it was saved (channels last, transposed, ...)."""
    if order is None:
        return tensor.clone(memory_format=torch.contiguous_format)
    if sorted(order) != list(range(tensor.dim())):
        raise TsdistillError(
            f"{path}: damaged metadata: the order {list(order)} for {tensor.dim()} dimensions"
        )
    back = [order.index(d) for d in range(len(order))]
    return tensor.permute(order).clone(memory_format=torch.contiguous_format).permute(back)


def _write(path: Path, tensors: Mapping[str, torch.Tensor], text: str) -> None:
    with atomic_file(path, RuntimeError, ValueError, SafetensorError) as temporary:
        if path.suffix.lower() == SAFETENSORS:
            write_tensors(temporary, tensors, {"format": "pt", HEADER: text})
            return
        contents: dict[str, Any] = {HEADER: json.loads(text), "state_dict": dict(tensors)}
        with open(temporary, "wb") as file:
            torch.save(contents, file)
