"""A model without branches gives what the whole one does whose branches give constants, with less work."""

from __future__ import annotations

import pytest
import timm
import torch
import transformers
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import tsdistill as tsd
from tests.networks import mlp, randomise
from tests.tracing.branch_networks import BLOCKS, network
from tsdistill.models.constant_modules import Constant, PassThrough
from tsdistill.runtime.modes import call
from tsdistill.runtime.nests import repeated, tensors


def _macs(model, example):
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        call(model, example)
    return counter.get_total_flops() // 2


def _constants(model, branch, values):
    """Hooks that let the last modules of a branch give constants; written apart from the package."""

    def hook(name):
        def replace(_module, _args, output):
            first = output if isinstance(output, torch.Tensor) else output[0]
            shape = [-1 if size == len(values[name]) else 1 for size in first.shape]
            constant = torch.zeros_like(first) + values[name].reshape(shape)
            return constant if isinstance(output, torch.Tensor) else (constant, *output[1:])

        return replace

    return [model.get_submodule(name).register_forward_hook(hook(name)) for name in branch.last]


def _agree(small, model, example):
    with torch.no_grad():
        for one, other in zip(tensors(call(small, example)), tensors(call(model, example)), strict=True):
            assert one.shape == other.shape
            assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("kind", BLOCKS)
@pytest.mark.parametrize("zeros", [True, False], ids=["zeros", "values"])
def test_the_output_is_that_of_the_model_whose_branch_gives_constants(kind, zeros):
    model, example = network(kind)
    more = torch.randn(3, *example.shape[1:])
    for branch in tsd.trace_branches(model, example):
        channels = 8 if example.ndim == 3 else branch.shape[1]
        values = {name: torch.zeros(channels) if zeros else torch.randn(channels) for name in branch.last}
        done = tsd.remove_branches(model, [branch.name], example, values=None if zeros else values)
        assert (done.removed, done.put_back) == ((branch.name,), ())
        hooks = _constants(model, branch, values)
        _agree(done.model, model, more)
        if example.ndim == 4:
            _agree(done.model, model, torch.randn(2, 3, 12, 14))
        else:
            _agree(done.model, model, torch.randn(2, 9, 5))
        for handle in hooks:
            handle.remove()


@pytest.mark.parametrize("kind", BLOCKS)
def test_parameters_and_operations_are_gone(kind):
    model, example = network(kind)
    for branch in tsd.trace_branches(model, example):
        small = tsd.remove_branches(model, [branch.name], example).model
        before, after = (sum(p.numel() for p in m.parameters()) for m in (model, small))
        assert after == before - branch.params
        assert not any(name.startswith(tuple(f"{m}." for m in branch.modules)) for name in small.state_dict())
        assert _macs(small, example) == _macs(model, example) - branch.macs


@pytest.mark.parametrize("kind", BLOCKS)
def test_branches_leave_together(kind):
    model, example = network(kind)
    names = [b.name for b in tsd.trace_branches(model, example) if b.within is None]
    done = tsd.remove_branches(model, names, example)
    assert done.removed == tuple(names)
    left = {module for branch in tsd.trace_branches(done.model, example) for module in branch.modules}
    assert all("downsample" in name for name in left)
    assert done.model.training == model.training
    assert torch.isfinite(done.model(repeated(example, 2))).all()


@pytest.mark.parametrize("kind", BLOCKS)
def test_the_model_without_branches_trains(kind):
    model, example = network(kind)
    branches = tsd.trace_branches(model, example)
    values = {n: torch.randn(8 if example.ndim == 3 else branches[0].shape[1]) for n in branches[0].last}
    small = tsd.remove_branches(model, [branches[0].name], example, values=values).model.train()
    small(repeated(example, 2)).square().sum().backward()
    biases = [m.bias for m in small.modules() if isinstance(m, Constant) and m.bias is not None]
    assert [bias.grad is not None for bias in biases] == [True] * len(branches[0].last)


@pytest.mark.parametrize("kind", ["pre-norm", "conditioned", "basic", "inverted", "nested"])
def test_torch_export_takes_the_model_without_branches(kind):
    model, example = network(kind)
    names = [b.name for b in tsd.trace_branches(model, example) if b.within is None][:1]
    small = tsd.remove_branches(model, names, example).model
    batch = torch.export.Dim("batch", min=2, max=16)
    program = torch.export.export(small, (repeated(example, 2),), dynamic_shapes=({0: batch},))
    more = torch.randn(5, *example.shape[1:])
    assert torch.allclose(program.module()(more), small(more), atol=1e-5)


def test_a_block_with_nothing_left_to_do_is_passed_through():
    model, example = network("basic")
    layer1 = tsd.remove_branches(model, ["layer1.0", "layer1.1"], example).model.layer1
    assert isinstance(layer1, PassThrough)
    model, example = network("pre-norm")
    blocks = tsd.remove_branches(model, ["blocks.1.attention", "blocks.1.mlp"], example).model.blocks
    assert [isinstance(block, PassThrough) for block in blocks] == [False, True]


def test_nodes_of_the_stream_are_cut_after_a_branch_has_left():
    for kind in ("basic", "pre-norm", "scaled"):
        model, example = network(kind)
        branch = tsd.trace_branches(model, example)[0]
        values = {name: torch.randn(8) for name in branch.last}
        bare = tsd.remove_branches(model, [branch.name], example, values=values).model
        graph = tsd.trace(bare, example)
        stream = graph.groups[0].name
        smaller = tsd.cut(bare, graph, {stream: [1, 5]}, example)
        assert not smaller.put_back
        constants = [module.bias for module in smaller.model.modules() if isinstance(module, Constant)]
        assert [bias.shape for bias in constants if bias is not None] == [(6,)]


def test_a_branch_that_another_one_holds_goes_with_it():
    model, example = network("nested")
    done = tsd.remove_branches(model, ["layer1.0.inner", "layer1.0"], example)
    assert done.removed == ("layer1.0",)


@pytest.mark.parametrize(
    ("names", "cause"), [(["layer9"], "layer9"), (["blocks.0.mlp", "blocks.0.attention"], "blocks.0.mlp")]
)
def test_what_cannot_be_removed_is_refused(names, cause):
    model, example = network("parallel")
    with pytest.raises(tsd.TsdistillError, match=cause):
        tsd.remove_branches(model, names, example)


def test_a_model_without_branches_says_so():
    with pytest.raises(tsd.TsdistillError, match="no residual branch"):
        tsd.remove_branches(mlp(4, 8, 3), ["0"], torch.randn(1, 4))


class Reader(nn.Module):
    """Code that reads the weight of a layer inside a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.other, self.head = (nn.Linear(8, 8) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.layer(x) * self.layer.weight.norm()
        return self.head(x + self.other(x))


def test_a_branch_that_fails_is_put_back_with_the_cause():
    model, example = randomise(Reader()), torch.randn(1, 8)
    done = tsd.remove_branches(model, ["layer", "other"], example)
    assert done.removed == ("other",)
    assert [(item.name, "weight" in item.cause) for item in done.put_back] == [("layer", True)]
    with torch.no_grad():
        model.other.weight.zero_()
        model.other.bias.zero_()
    _agree(done.model, model, torch.randn(4, 8))


CATALOG = (
    "test_vit",
    "test_resnet",
    "test_convnext",
    "mobilenetv3_small_050",
    "test_byobnet",
    "test_coatnet",
)


@pytest.mark.parametrize("name", CATALOG)
def test_all_branches_of_a_catalog_model_leave(name):
    model = randomise(timm.create_model(name))
    example = torch.randn(1, *model.pretrained_cfg["input_size"])
    branches = [b for b in tsd.trace_branches(model, example) if b.within is None]
    done = tsd.remove_branches(model, [branch.name for branch in branches], example)
    assert not done.put_back
    assert _macs(done.model, example) == _macs(model, example) - sum(branch.macs for branch in branches)


LANGUAGE = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "bert": (transformers.BertConfig, transformers.BertModel),
    "gpt2": (transformers.GPT2Config, transformers.GPT2LMHeadModel),
}


@pytest.mark.parametrize("family", LANGUAGE)
def test_branches_of_language_models_leave(family):
    config, architecture = LANGUAGE[family]
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 64}
    model = randomise(architecture(config(**sizes)))
    example = {"input_ids": torch.arange(10)[None]}
    names = [branch.name for branch in tsd.trace_branches(model, example)]
    done = tsd.remove_branches(model, names[1:4], example)
    assert (done.removed, done.put_back) == (tuple(names[1:4]), ())
    whole, small = (sum(p.numel() for p in m.parameters()) for m in (model, done.model))
    assert whole - small == sum(branch.params for branch in tsd.trace_branches(model, example)[1:4])
    lengths = [done.model(input_ids=torch.arange(n)[None]).to_tuple()[0].shape[1] for n in (4, 7)]
    assert lengths == [4, 7]
