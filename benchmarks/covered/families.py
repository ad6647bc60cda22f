"""All types of models of transformers, each made small by one rule: a specification that builds and runs."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

import tsdistill as tsd
from tsdistill.models.sources import catalog
from tsdistill.models.sources.hf_source import spelt
from tsdistill.runtime.modes import call

from .apart import Limits, apart
from .architectures import LIMIT

LIMITS = Limits(seconds=90, gigabytes=9)
"""What looking for one may take."""

_FEW: dict[str, int] = {
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers", "depth"), 2),
    **dict.fromkeys(("encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_encoder_layers", "num_decoder_layers"), 2),
    "vocab_size": 200,
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "moe_k", "top_k", "experts_per_token"), 2),
    **dict.fromkeys(("n_group", "topk_group", "num_expert_group", "topk_groups"), 1),
    **dict.fromkeys(("pad_token_id", "blank_token_id"), 0),
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "sep_token_id": 3,
    "cls_token_id": 4,
    **dict.fromkeys(("image_token_id", "image_token_index"), 5),
    **dict.fromkeys(("video_token_id", "video_token_index"), 6),
    **dict.fromkeys(("audio_token_id", "audio_token_index"), 7),
    "vision_start_token_id": 8,
    "vision_end_token_id": 9,
}
"""Numbers that make any model smaller without another one having to fit."""

_THIN: dict[str, int] = {
    **dict.fromkeys(("intermediate_size", "ffn_dim", "d_ff", "hidden_dim", "n_inner"), 256),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim"), 256),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 64),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 64),
    **dict.fromkeys(("num_frames", "frames_per_clip"), 4),
}
"""Those of MLPs, texts and videos."""

_NARROW: dict[str, int] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "embed_dim"), 64),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
    "num_key_value_heads": 2,
    **dict.fromkeys(("head_dim", "d_kv", "attention_head_size", "v_head_dim"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "qk_nope_head_dim"), 8),
    "kv_lora_rank": 16,
    "q_lora_rank": 32,
    "rotary_dim": 8,
    "image_size": 64,
    "patch_size": 16,
    **dict.fromkeys(("out_hidden_size", "projection_dim"), 64),
    **dict.fromkeys(("mm_tokens_per_image", "image_seq_length"), 16),
}
"""Those of streams, heads and images, which have to fit one another."""

_BROAD: dict[str, int] = {
    **_NARROW,
    **dict.fromkeys(("hidden_size", "d_model", "embed_dim", "out_hidden_size", "projection_dim"), 256),
    **dict.fromkeys(("num_attention_heads", "num_heads"), 2),
    "num_key_value_heads": 1,
    "head_dim": 128,
}
"""The same with heads of 128, which rotations in several sections are made for."""

_LATENT = ("qk_rope_head_dim", "rotary_dim")
_MIXED = ("layer_types", "layers_block_type", "full_attention_interval", "attn_layer_period")
_PERIODS = (2, 4, 8)


def types() -> list[str]:
    """All types of models that transformers has."""
    return list(MODEL_MAPPING_NAMES)


def measured(name: str) -> tuple[str, int, str]:
    """What `small` gives, tried in a process of its own: a type whose numbers do not fit may take any time
    and memory."""
    with tempfile.TemporaryDirectory() as folder:
        row = apart(lambda timed: {"small": small(name)}, Path(folder), LIMITS)  # noqa: ARG005
    taken, size, spec = row.get("small") or ("", 0, "")
    return taken, size, spec


def small(name: str) -> tuple[str, int, str]:
    """``(what it takes, parameters, specification)`` of the smallest model of a type that builds and runs on
    an input that its configuration says; nothing, 0 and nothing where none does."""
    for spec in dict.fromkeys(_ways(name)):
        try:
            with torch.device("meta"):
                size = sum(p.numel() for p in catalog.build(spec, weights=False).model.parameters())
            if size > LIMIT:
                continue
            torch.manual_seed(0)
            model = catalog.build(spec, weights=False).model.eval()
            given = tsd.example_input(model)
            with torch.no_grad():
                call(model, given)
        except Exception:  # numbers that do not fit one another, in any of a hundred ways
            continue
        return _taken(given), size, spec
    return "", 0, ""


def _taken(given: Collection[str]) -> str:
    """What sort of inputs these are."""
    kinds = {
        "text": any(key.endswith("input_ids") for key in given),
        "images": any(key.startswith(("pixel", "grid", "image")) for key in given),
        "sound": any(key in ("input_features", "input_values") for key in given),
    }
    return " and ".join(kind for kind, there in kinds.items() if there) or "series"


def _ways(name: str) -> Iterator[str]:
    """Specifications, the small ones first."""
    named = MODEL_MAPPING_NAMES[name]
    kind = named[0] if isinstance(named, tuple | list) else named
    if not hasattr(transformers, kind) or name not in CONFIG_MAPPING:
        return
    for numbers in (
        {**_FEW, **_THIN, **_NARROW},
        {**_FEW, **_THIN, **_BROAD},
        {**_FEW, **_THIN},
        _FEW,
        {},
    ):
        for layers in _PERIODS:
            options = _options(CONFIG_MAPPING[name], numbers, layers)
            if options is not None:
                yield spelt(kind, options)


def _options(kind: Any, numbers: dict[str, int], layers: int) -> dict[str, Any] | None:
    """What a kind of configuration is told to become small, with those inside it."""
    try:
        given = kind()
    except Exception:  # one that needs arguments
        return None
    named = vars(given)
    latent = any(key in named for key in _LATENT)
    told: dict[str, Any] = {}
    for key, value in numbers.items():
        if not isinstance(named.get(key), int) or isinstance(named[key], bool):
            continue
        if latent and key == "head_dim":
            continue
        mixed = "layer" in key and any(n in named for n in _MIXED)
        told[key] = layers if mixed else value
    for key in getattr(kind, "sub_configs", {}):
        inner = named.get(key)
        if inner is not None and hasattr(inner, "model_type"):
            found = _options(type(inner), numbers, layers)
            if found:
                told[key] = {"model_type": inner.model_type, **found}
    return told
