"""Weights that a training elsewhere saved from a cut model are read with that model's file as the pattern."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn

import tsdistill as tsd

SPEC = "timm:test_resnet,pretrained=false,num_classes=4"


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    place = tmp_path_factory.mktemp("pattern")
    model = tsd.load(SPEC, inputs={"input_size": (3, 32, 32)})
    small = tsd.prune(model, data=torch.randn(8, 3, 32, 32), macs=0.6, realignment={"realign": False})
    tsd.save(small, place / "half.safetensors")
    return small, place


def trained(small: nn.Module) -> nn.Module:
    import copy

    model = copy.deepcopy(small).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(4, 3, 32, 32)).square().mean().backward()
        optimizer.step()
    return model.eval()


@pytest.mark.parametrize("form", ["bare", "ddp", "compiled", "lightning", "safetensors"])
def test_the_checkpoint_of_a_training_script_is_read(cut, form, tmp_path):
    from safetensors.torch import save_file

    small, place = cut
    model, path = trained(small), tmp_path / "theirs.pt"
    state = model.state_dict()
    prefixes = {"ddp": "module.", "compiled": "_orig_mod.", "lightning": "model."}
    named = OrderedDict((prefixes.get(form, "") + name, tensor) for name, tensor in state.items())
    if form == "safetensors":
        path = path.with_suffix(".safetensors")
        save_file({name: tensor.contiguous() for name, tensor in named.items()}, path)
    else:
        torch.save({"state_dict": named, "epoch": 3} if form == "lightning" else named, path)
    again = tsd.load(path, arch=str(place / "half.safetensors"))
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again(x), model(x))
    tsd.save(again, tmp_path / "ours.safetensors")
    with torch.no_grad():
        assert torch.equal(tsd.load(tmp_path / "ours.safetensors")(x), model(x))


def test_the_pattern_is_left_as_it_is(cut, tmp_path):
    small, place = cut
    torch.save(trained(small).state_dict(), tmp_path / "theirs.pt")
    before = (place / "half.safetensors").read_bytes()
    tsd.load(tmp_path / "theirs.pt", arch=str(place / "half.safetensors"))
    assert (place / "half.safetensors").read_bytes() == before


def test_weights_of_the_uncut_network_are_refused(cut, tmp_path):
    _, place = cut
    torch.save(tsd.load(SPEC).state_dict(), tmp_path / "whole.pt")
    with pytest.raises(tsd.TsdistillError, match="does not fit"):
        tsd.load(tmp_path / "whole.pt", arch=str(place / "half.safetensors"))


def test_a_pattern_without_an_architecture_is_refused(cut, tmp_path):
    small, _ = cut
    torch.save(small.state_dict(), tmp_path / "theirs.pt")
    torch.save(small.state_dict(), tmp_path / "bare.pt")
    with pytest.raises(tsd.TsdistillError, match="no architecture"):
        tsd.load(tmp_path / "theirs.pt", arch=str(tmp_path / "bare.pt"))
