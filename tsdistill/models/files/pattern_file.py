"""Weights of anybody's in the architecture and the widths of a file of ours: a cut model that came back."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from tsdistill.errors import TsdistillError
from tsdistill.models.files import checkpoint, save
from tsdistill.models.files.checkpoint import Contents
from tsdistill.models.files.stored_weights import change_tensors, fill, unify
from tsdistill.models.info import ModelInfo
from tsdistill.options.option_fields import written


def is_pattern(arch: str | None) -> bool:
    """Whether an architecture is stated by a file of weights."""
    return arch is not None and Path(arch).suffix.lower() in save.OUTPUTS and Path(arch).is_file()


def fit_to_file(path: Path, contents: Contents, pattern: Path, *, trust: bool) -> tuple[nn.Module, ModelInfo]:
    """The model of ``pattern``, a file that `save` wrote, with the weights of another file.

    So a checkpoint that a training script saved from a cut model is read, though its own code builds the
    uncut network. The prefixes of wrappers (``module.``, ``_orig_mod.``, ...) before names do not matter.

    Args:
        path: the file with the weights, for messages.
        contents: what was read from it.
        pattern: the file with the architecture and the widths.
        trust: import the code that ``pattern`` names.

    Raises:
        TsdistillError: ``pattern`` says no architecture, or the weights do not fit it; says what differs.
    """
    own = checkpoint.read(pattern)
    if own.header is None:
        raise TsdistillError(
            f"{written('arch', str(pattern))}: it holds weights alone and says no architecture; name a file "
            "that tsdistill wrote, or a specification such as timm:NAME"
        )
    model, info = save.restore(pattern, own, arch=None, trust=trust)
    fill(model, map(dict, checkpoint.variants(contents.tensors)), str(pattern), path)
    return change_tensors(unify(model), torch.Tensor.clone), info
