"""Real architectures: traced, cut to half of every width, held against the zeroed original."""

import numpy as np
import pytest
import timm
import torch
import torchvision

from tests.tracing.networks import randomise, zeroed
from tsdistill.tracing import cut, trace

SMALL = {
    "resnet18": 64,
    "vgg11": 224,
    "densenet121": 64,
    "mobilenetv3_small_100": 64,
    "efficientnet_b0": 64,
    "regnety_002": 64,
    "resnext50_32x4d": 64,
    "convnext_atto": 64,
    "vit_tiny_patch16_224": 224,
    "swin_tiny_patch4_window7_224": 224,
    "mixer_s32_224": 224,
    "dla60_res2net": 64,
    "dpn68": 64,
    "cspresnet50": 64,
    "coatnet_nano_rw_224": 224,
}


def _held_against_the_original(model, size: int, at_most: float) -> None:
    randomise(model).eval()
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(3))
    graph = trace(model, x)
    assert not any("differs" in item.cause or "computes" in item.cause for item in graph.frozen)
    removed = {
        group.name: np.random.default_rng(i).permutation(group.size)[: group.size // 2]
        for i, group in enumerate(graph.groups)
    }
    result = cut(model, graph, removed, x)
    assert result.put_back == ()
    kept = {group.name: group.size - group.size // 2 for group in graph.groups}
    assert graph.params(kept) == sum(p.numel() for p in result.model.parameters())
    assert graph.macs(kept) / graph.macs() < at_most
    batch = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        found, wanted = result.model(batch), zeroed(model, graph, removed)(batch)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=2e-3 * float(wanted.abs().max()))


@pytest.mark.parametrize("name", SMALL)
def test_half_of_every_width_of_a_timm_model(name):
    _held_against_the_original(timm.create_model(name), SMALL[name], at_most=0.36)


@pytest.mark.parametrize(
    ("name", "at_most"),
    [
        ("resnet18", 0.3),
        ("mobilenet_v2", 0.35),
        ("googlenet", 0.3),
        ("squeezenet1_1", 0.35),
        ("mnasnet0_5", 0.4),
    ],
)
def test_half_of_every_width_of_a_torchvision_model(name, at_most):
    options = {"init_weights": False} if name == "googlenet" else {}
    _held_against_the_original(torchvision.models.get_model(name, weights=None, **options), 96, at_most)


def test_multi_head_attention_of_torch_goes_by_heads_and_by_its_stream():
    model = torchvision.models.vit_b_16(weights=None, image_size=32).eval()
    x = torch.randn(1, 3, 32, 32)
    graph = trace(model, x)
    hidden = [group for group in graph.groups if group.size == 3072]
    assert [len(hidden), sum(group.size == 12 for group in graph.groups)] == [12, 12]
    assert [item.name for item in graph.frozen] == ["heads.head"]
    halves = {group.name: np.arange(group.size // 2) for group in graph.groups}
    assert cut(model, graph, halves, x).put_back == ()
    removed = {group.name: np.arange(1000) for group in hidden}
    small = cut(model, graph, removed, x).model
    with torch.no_grad():
        torch.testing.assert_close(small(x), zeroed(model, graph, removed)(x), rtol=1e-3, atol=1e-3)


def test_attention_is_cut_to_a_single_head():
    model = randomise(timm.create_model("vit_tiny_patch16_224", img_size=32)).eval()
    x = torch.randn(1, 3, 32, 32)
    graph = trace(model, x)
    heads = {group.name: [0, 2] for group in graph.groups if group.name.endswith("attn.qkv")}
    assert len(heads) == 12
    result = cut(model, graph, heads, x)
    assert result.put_back == ()
    assert result.model.blocks[0].attn.num_heads == 1
    with torch.no_grad():
        torch.testing.assert_close(result.model(x), zeroed(model, graph, heads)(x), rtol=1e-3, atol=1e-3)
