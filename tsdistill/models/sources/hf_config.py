"""The configuration of a cut model of transformers, where one can say its widths."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from tsdistill.errors import TsdistillError, cause_of
from tsdistill.models.files.stored_weights import Shapes, shapes_of
from tsdistill.models.input_spec import example_input
from tsdistill.models.origin import info_of

_WIDTHS = ("hidden_size", "d_model", "n_embd", "dim")
_INNER = (
    *("intermediate_size", "d_ff", "hidden_dim", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "n_inner"),
    *("ffn_hidden_size", "moe_intermediate_size"),
)
_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
_SIDES = ("encoder_attention_heads", "decoder_attention_heads")
_SIZES = ("head_dim", "d_kv")
_QUERY = re.compile(r"(^|\.)(q|q_proj|query|q_lin|c_attn)\.weight$")
_KEY = re.compile(r"(^|\.)(k|k_proj|key|k_lin)\.weight$")
_FUSED = re.compile(r"(^|\.)c_attn\.weight$")
"""Projections that hold query, key and value, all of one width."""
_STREAM = re.compile(r"(layer_?norm|ln_1|layernorm_before|norm1|sa_layer_norm)\d?\.weight$", re.IGNORECASE)
_STEM = re.compile(r"(^|\.)conv_layers\.\d+\.conv\.weight$")

CARD = "README.md"
"""The file of a model card."""


def set_widths(model: Any, shapes: Shapes) -> None:
    """Bring the configuration of a cut model up to date, in place.

    Args:
        model: the cut model.
        shapes: of the parameters that its configuration gives.
    """
    _set(model.config, shapes, shapes_of(dict(model.named_parameters())))


def says(model: Any, shapes: Shapes) -> bool:
    """Whether a configuration of the model's family gives parameters of these shapes.

    Args:
        model: a model of transformers.
        shapes: those of all of its parameters once nodes have left.
    """
    config = copy.deepcopy(model.config)
    try:
        _set(config, shapes_of(dict(model.named_parameters())), shapes)
        return built_shapes(model, config) == dict(shapes)
    except Exception:  # whatever a class of transformers says of a configuration
        return False


def built_shapes(model: Any, config: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of the parameters that a configuration gives."""
    with torch.device("meta"):
        fresh = type(model)(copy.deepcopy(config))
    return shapes_of(dict(fresh.named_parameters()))


def save_pretrained(
    model: Any, folder: str | Path, final: str | Path | None = None, *, card: str | None = None
) -> Path:
    """Write a model of transformers so that ``from_pretrained`` reads it without tsdistill.

    Beside configuration and weights lie the generation's configuration and the tokenizer, where the model
    has them.

    Args:
        model: what is written.
        folder: where.
        final: what messages call it; ``folder`` without it.
        card: the text of a model card, ``README.md``.

    Raises:
        TsdistillError: no configuration of its family says the widths it has.
    """
    config = copy.deepcopy(model.config)
    new = shapes_of(dict(model.named_parameters()))
    _set(config, built_shapes(model, model.config), new)
    mismatch = _mismatch(model, config)
    if mismatch is not None:
        raise TsdistillError(
            f"{final or folder} is not written: no configuration of {type(model).__name__} says these widths "
            f"({mismatch}); save to a .safetensors file, which tsdistill.load reads"
        )
    fresh = type(model)(config)
    fresh.load_state_dict(model.state_dict())
    if getattr(model, "generation_config", None) is not None:
        fresh.generation_config = copy.deepcopy(model.generation_config)
    fresh.to(next(model.parameters()).dtype).save_pretrained(folder)
    place = info_of(model).tokenizer
    if place is not None:
        _save_tokenizer(place, folder)
    if card is not None:
        (Path(folder) / CARD).write_text(card, encoding="utf-8")
    return Path(folder)


def _save_tokenizer(place: Any, folder: str | Path) -> None:
    """Write a tokenizer beside a model, if it is one that transformers writes; a model without one is whole,
    too."""
    tokenizer = place
    if isinstance(place, (str, Path)):
        import transformers

        with suppress(Exception):  # a folder of anybody's may make its reader raise anything
            tokenizer = transformers.AutoTokenizer.from_pretrained(str(place), trust_remote_code=False)
    if hasattr(tokenizer, "save_pretrained"):
        tokenizer.save_pretrained(folder)


def _set(config: Any, old: Shapes, new: Shapes) -> None:
    """Set the widths of a configuration that gives the shapes ``old`` to those of ``new``.

    It gives all layers the same width; whether it builds this very model remains to be tried out
    (`_mismatch`).
    """
    for part, names in list(_parts(config, old)):
        _follow(part, {n: old[n] for n in names}, new)


def _parts(config: Any, names: Shapes) -> Iterator[tuple[Any, list[str]]]:
    """The configuration and those inside it, each with the names of the parameters that it describes."""
    inner = {
        key: value
        for key, value in vars(config).items()
        if key.endswith("_config") and hasattr(value, "to_dict")
    }
    for key, part in inner.items():
        yield part, [name for name in names if name.startswith(key.removesuffix("_config"))]
    yield config, [n for n in names if not any(n.startswith(key.removesuffix("_config")) for key in inner)]


def _follow(config: Any, old: Shapes, new: Shapes) -> None:
    """Set the widths of ``config`` from the parameters that had the ones it says."""
    hidden = next((getattr(config, key) for key in _WIDTHS if _is_number(config, key)), None)
    if hidden is None:
        return
    for key in (*_HEADS, *_SIDES):
        if _is_number(config, key):
            _follow_heads(config, key, hidden, old, new)
    for key in _INNER:
        stated = getattr(config, key, None)
        width = 4 * hidden if key == "n_inner" and hasattr(config, key) and stated is None else stated
        side = key.partition("_")[0] if key.endswith("_ffn_dim") else ""
        new_widths = _changes({n: s for n, s in old.items() if side in n}, new, width) - {width}
        if width != hidden and len(new_widths) == 1:  # a fused projection may have the same width and keep it
            setattr(config, key, new_widths.pop())
    stem = [new[name][0] for name in old if _STEM.search(name)]
    if stem and len(stem) == len(getattr(config, "conv_dim", ())):
        config.conv_dim = type(config.conv_dim)(stem)
    for key in _WIDTHS:
        if _is_number(config, key):
            widths = {new[n][0] for n, shape in old.items() if _STREAM.search(n) and shape == (hidden,)}
            if len(widths) == 1:
                setattr(config, key, widths.pop())


def _follow_heads(config: Any, key: str, hidden: int, old: Shapes, new: Shapes) -> None:
    """Set the number of heads ``key``, and what goes with it."""
    heads = getattr(config, key)
    size = next((getattr(config, k) for k in _SIZES if _is_number(config, k)), hidden // heads)
    side = key.partition("_")[0] if key in _SIDES else ""
    counts = _outputs(_QUERY, {n: s for n, s in old.items() if side in n}, new, heads * size)
    if len(counts) == 1:
        setattr(config, key, counts.pop() // size)
    if _is_number(config, "num_key_value_heads"):
        counts = _outputs(_KEY, old, new, config.num_key_value_heads * size)
        if len(counts) == 1:
            config.num_key_value_heads = counts.pop() // size
    if hasattr(config, "head_dim") and not isinstance(vars(type(config)).get("head_dim"), property):
        config.head_dim = size


def _is_number(config: Any, key: str) -> bool:
    value = getattr(config, key, None)
    return isinstance(value, int) and not isinstance(value, bool)


def _outputs(pattern: re.Pattern[str], old: Shapes, new: Shapes, width: int) -> set[int]:
    """What has become of the ``width`` outputs of the projections that ``pattern`` finds.

    A projection is ``[outputs, inputs]``; one of `_FUSED` gives query, key and value, from either side.
    """
    counts = set()
    for name, shape in old.items():
        if pattern.search(name) and _FUSED.search(name):
            dim = len(shape) - 1 if shape[-1] == 3 * width else 0
            counts.add(new[name][dim] // (3 if shape[dim] == 3 * width else 1))
        elif pattern.search(name):
            counts.add(new[name][0])
    return counts


def _changes(old: Shapes, new: Shapes, width: Any) -> set[int]:
    return {
        now for name, shape in old.items() for was, now in zip(shape, new[name], strict=True) if was == width
    }


def _mismatch(model: Any, config: Any) -> str | None:
    """In what the model that ``config`` builds is another than ``model``; ``None`` where it has the same
    parameters and, from them, the same outputs."""
    training = model.training
    try:
        fresh = type(model)(copy.deepcopy(config)).eval()
        fresh_shapes = shapes_of(dict(fresh.named_parameters()))
        for name, parameter in model.named_parameters():
            shape = tuple(parameter.shape)
            if fresh_shapes.get(name) != shape:
                return f"{name} has shape {shape}, the nearest one gives it {fresh_shapes.get(name)}"
        fresh.load_state_dict(model.state_dict())
        fresh.to(next(model.parameters()))
        x = example_input(model)
        with torch.no_grad():
            one, other = model.eval()(**x), fresh(**x)
    except (RuntimeError, ValueError, TypeError, AttributeError, ZeroDivisionError) as error:
        return f"the nearest one fails: {cause_of(error)}"
    finally:
        model.train(training)
    pairs = [(a, other[key]) for key, a in one.items() if isinstance(a, torch.Tensor)]
    if all(a.shape == b.shape and torch.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in pairs):
        return None
    return "the nearest one gives the same parameters and other outputs"
