"""Residual branches are found in models of every kind, by what they compute and not by their classes."""

from __future__ import annotations

import pytest
import timm
import torch
import transformers
from torch import nn

import tsdistill as tsd
from tests.networks import mlp, residual
from tests.tracing.branch_networks import BLOCKS, network

NAMES = {
    "pre-norm": ("attention", "mlp"),
    "post-norm": ("attention", "mlp"),
    "parallel": ("attention", "mlp", ""),
    "scaled": ("attention", "mlp"),
    "gated": ("layer",),
    "conditioned": ("first", "second"),
}
"""The branches of a block over tokens; the block itself is one where its two branches are joined first."""

MAPS = {
    "basic": ("layer1.0", "layer1.1", "layer2.0"),
    "padded": ("layer1.0", "layer1.1", "layer2.0"),
    "inverted": ("layer1.0", "layer1.1"),
    "nested": ("layer1.0.inner", "layer1.0", "layer1.1.inner", "layer1.1"),
}


@pytest.mark.parametrize("kind", BLOCKS)
def test_every_branch_of_a_block_is_found(kind):
    model, example = network(kind)
    names = {branch.name for branch in tsd.trace_branches(model, example)}
    blocks = [f"blocks.{n}" for n in (0, 1)]
    assert names == {
        *MAPS.get(kind, ()),
        *(f"{b}.{n}".rstrip(".") for b in blocks for n in NAMES.get(kind, ())),
    }


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_branch_is_what_the_model_does_without(kind):
    model, example = network(kind)
    graph = tsd.trace(model, example)
    parameters = dict(model.named_parameters())
    for branch in tsd.trace_branches(model, example, graph=graph):
        inside = [p for n, p in parameters.items() if n.startswith(tuple(f"{m}." for m in branch.modules))]
        assert branch.params == sum(p.numel() for p in inside) > 0
        operations = [t for t in graph.operations if t.name.startswith(branch.modules)]
        assert branch.macs == sum(term.value(graph.widths) for term in operations) > 0
        assert set(branch.last) <= set(branch.modules)
        assert branch.shape[0] == 1


def test_the_stream_of_a_branch():
    model, example = network("basic")
    graph = tsd.trace(model, example)
    streams = {branch.name: branch.stream for branch in tsd.trace_branches(model, example, graph=graph)}
    assert streams["layer1.0"] == streams["layer1.1"] == ("stem",)
    assert len(streams["layer2.0"]) == 1
    assert streams["layer2.0"] != ("stem",)


def test_branches_of_one_sum_are_rivals_and_lie_in_the_branch_around_them():
    model, example = network("parallel")
    branches = {branch.name: branch for branch in tsd.trace_branches(model, example)}
    assert branches["blocks.0.mlp"].rivals == ("blocks.0.attention",)
    assert branches["blocks.0.mlp"].within == branches["blocks.0.attention"].within == "blocks.0"
    assert (branches["blocks.0"].within, branches["blocks.0"].rivals) == (None, ())
    nested, example = network("nested")
    within = {branch.name: branch.within for branch in tsd.trace_branches(nested, example)}
    assert (within["layer1.0.inner"], within["layer1.0"]) == ("layer1.0", None)


def test_a_projection_is_a_shortcut_and_no_branch():
    model, example = network("basic")
    modules = [m for branch in tsd.trace_branches(model, example) for m in branch.modules]
    assert not any("downsample" in name for name in modules)


def test_no_branch_in_a_model_without_sums():
    assert tsd.trace_branches(mlp(4, 8, 3), torch.randn(1, 4)) == ()


def test_layers_of_the_model_itself_make_a_branch():
    (branch,) = tsd.trace_branches(residual(), torch.randn(1, 3, 8, 8))
    assert (branch.name, branch.place) == ("second", "")
    assert branch.modules == ("first", "first_norm", "second", "second_norm")


class Twice(nn.Module):
    """One block, which runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.other = BLOCKS["pre-norm"](), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.other(self.block(self.block(x)))


def test_a_block_that_runs_twice_is_one_block():
    branches = tsd.trace_branches(Twice(), torch.randn(1, 6, 8))
    assert [branch.name for branch in branches] == ["block.attention", "block.mlp"]


class Elsewhere(nn.Module):
    """What a branch computes is read elsewhere, too; the scales of another lie outside of it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.first(x)
        return self.head(x + self.second(inner.relu())) + inner


def test_what_is_read_elsewhere_is_no_part_of_a_branch():
    branches = {b.name: b.modules for b in tsd.trace_branches(Elsewhere(), torch.randn(1, 8))}
    assert branches == {"second": ("second",), "head": ("second", "head")}


COUNTS = {
    "timm:test_vit": 12,
    "timm:test_resnet": 4,
    "timm:test_convnext": 9,
    "timm:mobilenetv3_small_050": 7,
    "timm:efficientnet_lite0": 9,
    "timm:densenet121": 0,
    "torchvision:swin_t": 24,
    "torchvision:resnet18": 8,
}


@pytest.mark.parametrize("spec", COUNTS)
def test_branches_of_catalog_models(spec):
    model = tsd.load(f"{spec},pretrained=false")
    side = 64 if spec.startswith("torchvision") else timm.get_pretrained_cfg(spec[5:]).input_size[-1]
    branches = tsd.trace_branches(model, torch.randn(1, 3, side, side))
    assert len(branches) == len({branch.name for branch in branches}) == COUNTS[spec]


LANGUAGE = {
    "llama": (
        transformers.LlamaConfig,
        transformers.LlamaForCausalLM,
        "model.layers.{}.self_attn",
        "model.layers.{}.mlp",
    ),
    "bert": (
        transformers.BertConfig,
        transformers.BertModel,
        "encoder.layer.{}.attention",
        "encoder.layer.{}",
    ),
    "gpt2": (
        transformers.GPT2Config,
        transformers.GPT2LMHeadModel,
        "transformer.h.{}.attn",
        "transformer.h.{}.mlp",
    ),
}


@pytest.mark.parametrize("family", LANGUAGE)
def test_branches_of_language_models(family):
    config, architecture, *names = LANGUAGE[family]
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 64}
    model = architecture(config(intermediate_size=48, **sizes)).eval()
    branches = tsd.trace_branches(model, {"input_ids": torch.arange(10)[None]})
    assert [branch.name for branch in branches] == [name.format(n) for n in (0, 1) for name in names]
