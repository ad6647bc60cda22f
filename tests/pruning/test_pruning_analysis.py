from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torch import nn

import tsdistill as tsd
from tests.tracing.attention import Attention, attention
from tsdistill.errors import TsdistillError
from tsdistill.pruning import PruningPlan, prune_result
from tsdistill.pruning.pruning_analysis import analyze_for_pruning, cheaper_whole, graph_of
from tsdistill.tracing import trace


def lazy() -> tuple[Attention, torch.Tensor]:
    """Four heads of which two are never read, and data."""
    model = attention(heads=4)
    with torch.no_grad():
        model.proj.weight[:, 8:24] = 0
    return model, torch.randn(160, 7, 6)


def thin() -> tuple[Attention, torch.Tensor]:
    """Four heads of which all are read, on a stream so thin that their coordinates repeat each other."""
    return attention(heads=4, size=16, width=6), torch.randn(160, 7, 6)


def test_it_is_scored_which_way_heads_go() -> None:
    model, x = lazy()
    assert analyze_for_pruning(model, data=x, heads="score").graph.widths["qkv"] == 4
    assert analyze_for_pruning(model, data=x, heads="size").graph.widths["qkv"] == 8
    model, x = thin()
    assert analyze_for_pruning(model, data=x, heads="score").graph.widths["qkv"] == 16
    report = analyze_for_pruning(model, data=x, heads="whole")
    assert report.graph.widths["qkv"] == 4
    assert report.statistics.rebased is None
    sized = analyze_for_pruning(model, data=x, heads="size")
    assert cheaper_whole(sized, model, trace(model, x[:1])) == set()
    assert any("coordinates of all heads" in note for note in sized.notes)


def test_products_count_for_the_nodes() -> None:
    model, x = thin()
    report = analyze_for_pruning(model, data=x, heads="size")
    group, products = report.by_name["qkv"], report.statistics.products["qkv"]
    assert (products > 0).all()
    assert (group.strength**2 >= products * (1 - 1e-9)).all()
    assert not (group.dead | group.free | group.redundant).any()
    # In their own bases the first coordinates are those that matter.
    assert products[:6].min() > 1e3 * products[6:].max()


def test_far_better_than_whole_heads() -> None:
    model, x = thin()
    held = torch.randn(64, 7, 6)
    errors = {}
    for heads in ("whole", "size"):
        result = prune_result(
            model,
            data=x,
            budget={"params": 0.75},
            selection={"only": "qkv", "heads": heads},
            realignment={"realign": False},
        )
        with torch.no_grad():
            errors[heads] = float((result.model(held) - model(held)).square().mean())
    assert errors["size"] < 1e-3 * errors["whole"]


@pytest.mark.parametrize("rounds", [1, 3])
def test_re_alignment_follows_what_activations_became(rounds: int) -> None:
    model, x = thin()
    held = torch.randn(64, 7, 6)
    result = prune_result(
        model, data=x, budget={"params": 0.6}, selection={"heads": "size"}, realignment={"rounds": rounds}
    )
    assert result.realigned
    with torch.no_grad():
        error = (result.model(held) - model(held)).square().mean() / model(held).var()
    assert error < 0.05


def test_a_plan_says_what_its_nodes_are(tmp_path: Path) -> None:
    model, x = thin()
    made = prune_result(model, data=x, macs=0.6, selection={"heads": "size"}, realignment={"realign": False})
    assert made.plan.by_size == ("qkv",)
    assert "of 16 coordinates of every head leave" in str(made.plan)
    made.plan.to_json(tmp_path / "plan.json")
    plan = PruningPlan.from_json(tmp_path / "plan.json")
    assert plan.by_size == ("qkv",)
    followed = prune_result(model, plan, data=x, realignment={"realign": False})
    assert followed.after == made.after
    with torch.no_grad():
        assert torch.allclose(followed.model(x), made.model(x), atol=1e-4)
    plan.check(graph_of(model, x[:1], plan.by_size))
    with pytest.raises(TsdistillError, match="of 16 nodes"):
        plan.check(trace(model, x[:1]))
    data = json.loads((tmp_path / "plan.json").read_text())
    del data["by_size"]
    assert PruningPlan.from_dict(data).by_size == ()
    with pytest.raises(TsdistillError, match="by_size"):
        PruningPlan.from_dict({**data, "by_size": 3})


def test_heads_stay_whole_where_sizes_make_no_sense() -> None:
    model, x = thin()
    with pytest.raises(TsdistillError, match=r"heads .*score, whole, size.*'both'"):
        prune_result(model, data=x, macs=0.6, selection={"heads": "both"})
    assert (
        analyze_for_pruning(model, attention(heads=4, size=16, width=6, seed=1), x).graph.widths["qkv"] == 4
    )
    plain = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3)).eval()
    assert analyze_for_pruning(plain, data=x[:, 0], heads="size").statistics.rebased is None
    assert prune_result(model, data=x, budget="lossless").plan.by_size == ()


def test_a_real_architecture_is_saved_and_loaded_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    how = {
        "pretrained": "false",
        "img_size": 16,
        "patch_size": 4,
        "embed_dim": 24,
        "depth": 2,
        "num_heads": 3,
        "num_classes": 5,
    }
    model = tsd.load("timm:vit_tiny_patch16_224," + ",".join(f"{k}={v}" for k, v in how.items()))
    assert isinstance(model, timm.models.VisionTransformer)
    x = torch.randn(96, 3, 16, 16)
    small = tsd.prune(model, data=x, macs=0.4, selection={"heads": "size", "round_to": 4})
    assert all(block.attn.head_dim % 4 == 0 for block in small.blocks)
    assert any(block.attn.head_dim < 8 for block in small.blocks)
    tsd.save(small, tmp_path / "small.safetensors")
    again = tsd.load(tmp_path / "small.safetensors")
    with torch.no_grad():
        assert torch.equal(again(x), small(x))
        assert torch.allclose(small(x), torch.compile(small, backend="eager")(x), atol=1e-5)


def test_the_same_seed_gives_the_same() -> None:
    model, x = thin()
    one, two = (tsd.prune(model, data=x, macs=0.5, selection={"heads": "size"}) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert np.isfinite([float(p.detach().abs().max()) for p in one.parameters()]).all()
