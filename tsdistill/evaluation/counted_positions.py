"""Which positions of an output count: padding and ignored labels do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tsdistill.evaluation.output_layout import Layout
from tsdistill.options.output_options import IGNORED

_PADDING = ("tgt_key_padding_mask", "src_key_padding_mask", "key_padding_mask")
"""PyTorch's names of masks that are true where a token is padding, those of a decoder first."""

_DECODER = ("decoder_input_ids", "decoder_inputs_embeds")
"""Inputs whose presence says that positions are those of a decoder, not of ``input_ids``."""


def aligned_labels(x: Any, y: Any, ignore_index: int = IGNORED) -> Any:
    """Labels of the positions at which a model predicts them.

    Where the labels of a batch are its own ``input_ids`` (ignored ones aside), as language models are given
    them by transformers, the label of a position is the next token: they are moved by one to the left, and
    the last position of each sequence is ignored. All other labels stay as they are.

    Args:
        x: the inputs.
        y: their labels, anything.
        ignore_index: the label that counts for nothing.
    """
    tokens = x.get("input_ids") if isinstance(x, Mapping) else None
    if not isinstance(tokens, Tensor) or not isinstance(y, Tensor) or y.shape != tokens.shape or y.ndim != 2:
        return y
    if any(name in x for name in _DECODER) or not bool(((y == tokens) | (y == ignore_index)).all()):
        return y
    return torch.cat([y[:, 1:], y.new_full((len(y), 1), ignore_index)], 1)


def counted(
    layout: Layout, tensor: Tensor, x: Any = None, y: Any = None, ignore_index: int = IGNORED
) -> Tensor | None:
    """Which positions of an output count: bool ``[*positions]``, ``None`` where all do.

    An attention mask among the inputs (``attention_mask``, or ``decoder_attention_mask`` for a decoder) rules
    out the tokens where it is 0, and a padding mask in PyTorch's names (``src_key_padding_mask``) those where
    it is true, of outputs with one position for each token; class numbers rule out the positions whose label
    is ``ignore_index``, of outputs with one position for each label.

    Args:
        layout: of the output.
        tensor: the output.
        x: the inputs of the batch.
        y: its labels; for several outputs a mapping from the name of an output to its labels.
        ignore_index: the label that counts for nothing.
    """
    positions = layout.positions(tensor)
    mask = _attended(x, positions)
    labels = labels_for(layout, tensor, y)
    if labels is not None and not labels.is_floating_point():
        kept = labels.to(tensor.device) != ignore_index
        mask = kept if mask is None else mask.to(tensor.device) & kept
    return None if mask is None else mask.to(tensor.device)


def labels_for(layout: Layout, tensor: Tensor, y: Any) -> Tensor | None:
    """The labels of an output in the order of its positions: class numbers ``[*positions]``, or values or
    probabilities ``[*positions, classes]``; ``None`` where ``y`` has none that fit its shape.

    Dimensions of size 1 may be missing or too many.

    Args:
        layout: of the output.
        tensor: the output.
        y: labels of the batch; for several outputs a mapping from the name of an output to its labels.
    """
    y = y.get(layout.name) if isinstance(y, Mapping) else y
    if not isinstance(y, Tensor):
        return None
    positions = layout.positions(tensor)
    if not y.is_floating_point():
        return y.reshape(positions) if _same(y.shape, positions) else None
    if y.shape == tensor.shape:
        return layout.rows(y)
    if _same(y.shape, tensor.shape):
        return layout.rows(y.reshape(tensor.shape))
    return None


def _same(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two shapes are the same but for dimensions of size 1 behind the first."""
    return one[:1] == other[:1] and [n for n in one[1:] if n != 1] == [n for n in other[1:] if n != 1]


def _attended(x: Any, positions: tuple[int, ...]) -> Tensor | None:
    if not isinstance(x, Mapping) or len(positions) != 2:
        return None
    decodes = any(name in x for name in _DECODER)
    mask = x.get("decoder_attention_mask" if decodes else "attention_mask")
    if isinstance(mask, Tensor) and tuple(mask.shape) == positions:
        return mask != 0
    padding = next((x[name] for name in _PADDING if name in x), None)
    if isinstance(padding, Tensor) and padding.dtype == torch.bool and tuple(padding.shape) == positions:
        return ~padding
    return None
