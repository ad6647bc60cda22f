"""Branches are removed by pruning: by pattern or by plan, with what they gave on average, and re-aligned."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

import tsdistill as tsd
from tests.networks import mlp
from tests.tracing.branch_networks import network
from tsdistill.models.constant_modules import Constant
from tsdistill.pruning.branch_removal import average_outputs, branches_named


def inputs(kind, count=96):
    shape = (count, 3, 9, 9) if kind in ("basic", "padded", "inverted") else (count, 6, 5)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def error(model, other, x):
    with torch.no_grad():
        wanted = model(x)
        return float((other(x) - wanted).square().sum() / wanted.square().sum())


@pytest.mark.parametrize("kind", ["basic", "pre-norm", "inverted", "scaled"])
def test_branches_leave_by_pattern_and_the_rest_is_re_aligned(kind):
    model, _ = network(kind)
    x, other = inputs(kind), inputs(kind, 64).flip(0)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    names = [branch.name for branch in tsd.trace_branches(model, x[:1])]
    cut = tsd.prune_result(model, data=x, budget={"drop": names[1]}, realignment={"realign": False})
    fitted = tsd.prune_result(model, data=x, budget={"drop": [names[1]]}, realignment={"joint": False})
    for done in (cut, fitted):
        assert done.branches == done.plan.branches == (names[1],)
        assert done.plan.removed == {}
        assert done.before["params"] == sum(p.numel() for p in model.parameters())
        assert done.after == dict(done.plan.after)
        assert done.after["params"] == sum(p.numel() for p in done.model.parameters())
        assert done.after["macs"] < done.before["macs"]
    assert error(model, fitted.model, other) < error(model, cut.model, other)
    assert fitted.realigned > 0 == cut.realigned
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("kind", ["basic", "pre-norm", "parallel"])
def test_averages_are_those_of_the_outputs(kind):
    model, example = network(kind)
    x = inputs(kind)
    branch = tsd.trace_branches(model, example)[0]
    averages = average_outputs(model, [branch], [(part, None) for part in x.split(40)])
    seen = []
    module = model.get_submodule(branch.last[0])
    first = lambda out: out if isinstance(out, torch.Tensor) else out[0]  # noqa: E731
    handle = module.register_forward_hook(lambda _m, _a, out: seen.append(first(out).clone()))
    with torch.no_grad():
        model(x)
    handle.remove()
    (output,) = seen
    wanted = output.mean((0, 2, 3)) if output.ndim == 4 else output.mean((0, 1))
    assert torch.allclose(averages[branch.last[0]], wanted, atol=1e-5)


class Shifted(nn.Module):
    """What the branch gives hardly varies, so that its average says nearly all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch, self.head = (nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 3))
        with torch.no_grad():
            self.branch.weight.mul_(0.01)
            self.branch.bias.add_(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.head((x + self.branch(x)).relu())


def test_without_re_alignment_the_average_stays_where_it_serves():
    torch.manual_seed(0)
    model, x = Shifted().eval(), torch.randn(200, 4)
    done = tsd.prune(model, data=x, budget={"drop": "branch"}, realignment={"realign": False})
    assert isinstance(done.branch, Constant)
    assert done.branch.bias is not None
    zeros = tsd.remove_branches(model, ["branch"], x[:1]).model
    assert error(model, done, x) < 0.01 * error(model, zeros, x)
    centred = Shifted().eval()
    nn.init.zeros_(centred.branch.weight)
    nn.init.zeros_(centred.branch.bias)
    assert (
        tsd.prune(centred, data=x, budget={"drop": "branch"}, realignment={"realign": False}).branch.bias
        is None
    )


def test_a_plan_with_branches_and_nodes_is_followed(tmp_path):
    model, _ = network("basic")
    x = inputs("basic")
    bare = tsd.prune(model, data=x, budget={"drop": "layer1.0"}, realignment={"realign": False})
    groups = tsd.plan(tsd.analyze(bare, data=x, analysis={"for_pruning": True}), budget={"macs": 0.7}).groups
    alone = tsd.prune_result(model, data=x, budget={"drop": "layer1.0"}, realignment={"realign": False}).plan
    plan = replace(alone, groups=groups)
    plan.to_json(tmp_path / "plan.json")
    again = tsd.PruningPlan.from_json(tmp_path / "plan.json")
    assert again == plan
    assert "layer1.0" in str(plan)
    done = tsd.prune_result(model, again, data=x)
    assert (done.branches, done.put_back) == (("layer1.0",), ())
    widths = tsd.trace(done.model, x[:1]).widths
    assert all(widths[name] == group.size - len(group.removed) for name, group in groups.items())
    assert done.after["params"] == sum(p.numel() for p in done.model.parameters())


def test_a_plan_of_nodes_alone_is_written_as_before(tmp_path):
    model, x = mlp(4, 8, 3), torch.randn(64, 4)
    plan = tsd.prune_result(model, data=x, budget={"nodes": 0.5}).plan
    assert json.loads(plan.to_json())["format"] == 1
    assert json.loads(replace(plan, branches=("a",)).to_json())["format"] == 2


def test_what_leaves_is_saved_and_distilled(tmp_path):
    spec = "timm:test_resnet,pretrained=false,num_classes=4"
    model = tsd.load(spec, inputs={"input_size": (3, 64, 64)})
    x = torch.randn(24, 3, 64, 64)
    small = tsd.prune(model, data=x, budget={"drop": ["layer2.0"]}, realignment={"joint": False})
    tsd.save(small, tmp_path / "small.safetensors")
    assert torch.equal(tsd.load(tmp_path / "small.safetensors")(x), small(x))
    trained = tsd.distill(model, small, data=[(x, torch.arange(24) % 4)], options={"epochs": 1})
    assert torch.isfinite(trained.model(x)).all()
    notes = tsd.compare({"dense": model, "small": small}, x, brief=True).notes
    assert any("small" in note and "layer2.0" in note for note in notes)


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"budget": {"drop": "layer7.*"}}, "layer1.0"),
        ({"budget": {"drop": "layer1.0"}, "macs": 0.5}, "budget"),
        ({"budget": {"drop": "layer1.0"}, "realignment": {"rounds": 2}}, "rounds"),
        ({"budget": {"drop": ()}}, "no budget"),
    ],
)
def test_what_does_not_go_together_is_refused(options, cause):
    model, _ = network("basic")
    with pytest.raises(tsd.TsdistillError, match=cause):
        tsd.prune(model, data=inputs("basic"), **options)


def test_a_model_without_branches_is_refused():
    with pytest.raises(tsd.TsdistillError, match="no residual branch"):
        tsd.prune(mlp(4, 8, 3), data=torch.randn(8, 4), budget={"drop": "*"})
    assert branches_named(tsd.trace_branches(*network("gated")), "blocks.?.layer") == (
        "blocks.0.layer",
        "blocks.1.layer",
    )


def test_a_plan_whose_branch_is_not_there_is_refused():
    model, _ = network("basic")
    plan = tsd.prune_result(
        model, data=inputs("basic"), budget={"drop": "layer1.0"}, realignment={"realign": False}
    ).plan
    with pytest.raises(tsd.TsdistillError, match="layer9"):
        tsd.prune(model, replace(plan, branches=("layer9",)), data=inputs("basic"))
