from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.models.hf_families import FAMILIES
from tests.tracing.attention import SCALES, attention
from tsdistill.models import load
from tsdistill.pruning.head_basis import RewrittenHeads, rewrite_heads
from tsdistill.runtime.modes import run
from tsdistill.tracing import cut, trace


def rebased(model: nn.Module, x: Any, one: Any) -> RewrittenHeads | None:
    return rewrite_heads(model, trace(model, one), one, [(x, None)])


def strong(model: nn.Module) -> nn.Module:
    """With logits that count."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and any(part in name for part in ("qkv", "query", "key", ".q_", ".k_")):
                parameter.mul_(6)
    return model.eval()


def vit() -> nn.Module:
    torch.manual_seed(0)
    return strong(timm.models.VisionTransformer(16, 4, 3, 7, embed_dim=24, depth=2, num_heads=3, mlp_ratio=2))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("packed", [True, False])
def test_the_function_stays_and_the_last_coordinates_matter_least(scale: str, packed: bool) -> None:
    model = attention(scale, size=12, width=6, packed=packed)
    generator = torch.Generator().manual_seed(1)
    x, new = (torch.randn(32, 7, 6, generator=generator) for _ in range(2))
    before = copy.deepcopy(model.state_dict())
    found = rebased(model, x, x[:1])
    assert found is not None
    (name,) = found.queries
    assert found.graph.widths[name] == 12
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    with torch.no_grad():
        whole = model(new)
        assert torch.allclose(found.model(new), whole, atol=1e-4 * float(whole.abs().max()))
        # Queries and keys of a stream 6 wide (and a bias) have rank 7 at most, so the others do nothing.
        few = cut(found.model, found.graph, {name: range(7, 12)}, x[:1])
        assert not few.put_back
        assert torch.allclose(few.model(new), whole, atol=1e-3 * float(whole.abs().max()))
        first = cut(found.model, found.graph, {name: range(5)}, x[:1])
        assert not torch.allclose(first.model(new), whole, atol=1e-1 * float(whole.abs().max()))


@pytest.mark.parametrize("name", ["vit", "swin_tiny_patch4_window7_224", "mobilevit_xxs"])
def test_attention_of_timm_is_written_in_other_bases(name: str) -> None:
    torch.manual_seed(0)
    model = vit() if name == "vit" else strong(timm.create_model(name))
    x = torch.randn(3, 3, *((16, 16) if name == "vit" else (224, 224)))
    found = rebased(model, x, x[:1])
    assert found is not None
    assert len(found.queries) == sum("attn.qkv" in each for each, _ in model.named_modules())
    with torch.no_grad():
        wanted = model(x)
        assert torch.allclose(found.model(x), wanted, atol=1e-3 * float(wanted.abs().max()))


@pytest.mark.parametrize("family", ["bert", "vit", "clip"])
def test_attention_of_transformers_too(family: str) -> None:
    pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = strong(load(f"hf:{FAMILIES[family]}"))
    from tsdistill.models import example_input

    x = example_input(model)
    found = rebased(model, x, x)
    assert found is not None
    assert found.queries
    for one, other in zip(run(found.model, x), run(model, x), strict=True):
        assert torch.allclose(one, other, atol=1e-3 * float(other.detach().abs().max()))


class Rotated(nn.Module):
    """Queries and keys are turned by position, in pairs of coordinates."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.qkv, self.proj = nn.Linear(6, 16), nn.Linear(16, 48), nn.Linear(16, 16)
        self.end = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        q, k, v = self.qkv(x).view(len(x), -1, 3, 2, 8).permute(2, 0, 3, 1, 4)
        angle = torch.arange(x.shape[1], dtype=x.dtype)[:, None] * torch.tensor([1.0, 0.1, 0.01, 0.001])
        q, k = (
            torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)
            for a, b in (q.chunk(2, -1), k.chunk(2, -1))
        )
        return self.end(x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)))


def test_what_cannot_be_written_so_is_left_alone() -> None:
    torch.manual_seed(0)
    model, x = strong(Rotated()), torch.randn(4, 7, 6)
    assert rebased(model, x, x[:1]) is None
    plain = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    assert rebased(plain, x[:, 0], x[:1, 0]) is None


def test_only_some_layers_may_be_meant() -> None:
    model, x = vit(), torch.randn(3, 3, 16, 16)
    found = rewrite_heads(model, trace(model, x[:1]), x[:1], [(x, None)], ["blocks.1.attn.qkv"])
    assert found is not None
    assert list(found.queries) == ["blocks.1.attn.qkv"]
    assert found.graph.widths["blocks.0.attn.qkv"] == 3
