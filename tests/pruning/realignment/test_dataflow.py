from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.networks import randomise
from tsdistill.pruning.realignment.dataflow import PostOps, flow
from tsdistill.pruning.realignment.least_squares import activation_target
from tsdistill.runtime.modes import evaluation_mode


class Block(nn.Module):
    """A branch with batch norm, added to what came in, and a non-linearity behind."""

    def __init__(self, after: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.layer = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm, self.scale = nn.BatchNorm2d(4), nn.Parameter(torch.rand(4, 1, 1))
        self.after = after

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        return self.after(self.norm(self.layer(x)) * self.scale, x)


def followed(after: Callable[[Tensor, Tensor], Tensor]) -> PostOps:
    model = Block(after)
    randomise(model)
    with evaluation_mode(model):
        found = flow(model, ["first", "layer"], torch.randn(2, 3, 5, 5))
    assert found.order == ("first", "layer")
    assert [call.name for call in found.downstream["first"].affine] == []
    first = found.downstream["first"]
    assert first.activation is not None
    assert first.activation.name == "relu"
    path = found.downstream["layer"]
    y = torch.randn(6, 4, 5, 5)
    with torch.no_grad():
        model.eval()
        torch.testing.assert_close(path.through(y), model.norm(y) * model.scale)
    return path


def test_scaling_addition_and_non_linearity_are_found() -> None:
    path = followed(lambda branch, x: F.relu(branch + x))
    assert [call.name for call in path.affine] == ["batch_norm", "mul"]
    assert path.residual is not None
    assert path.activation is not None


def test_in_place_calls_count_too() -> None:
    def after(branch: Tensor, x: Tensor) -> Tensor:
        branch += x
        return F.relu_(branch)

    path = followed(after)
    assert path.residual is not None
    assert path.activation is not None
    assert path.activation.name == "relu_"


@pytest.mark.parametrize(
    "after",
    [
        lambda branch, x: branch * x,
        lambda branch, x: torch.cat([branch, x], 1),
        lambda branch, x: F.avg_pool2d(branch, 2),
        lambda branch, x: branch.relu() + branch,
        lambda branch, x: torch.add(branch, x, alpha=2),
    ],
    ids=["gate", "concatenation", "pool", "used twice", "scaled sum"],
)
def test_what_is_more_than_that_ends_the_chain(after: Callable[[Tensor, Tensor], Tensor]) -> None:
    path = followed(after)
    assert path.residual is None
    assert path.activation is None


def test_a_batch_norm_that_takes_the_batch_s_statistics_is_no_scaling() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False))
    with evaluation_mode(model):
        found = flow(model, ["0"], torch.randn(2, 3, 5, 5))
    assert found.downstream["0"].affine == ()


def test_layers_that_run_twice_are_left_out() -> None:
    layer = nn.Linear(3, 3)
    model = nn.Sequential(layer, layer, nn.Linear(3, 2))
    with evaluation_mode(model):
        assert flow(model, ["0", "2"], torch.randn(2, 3)).order == ("2",)


def activation(name: str) -> PostOps:
    model = nn.Sequential(nn.Linear(1, 1), getattr(nn, name)())
    with evaluation_mode(model):
        return flow(model, ["0"], torch.randn(2, 1)).downstream["0"]


@pytest.mark.parametrize(
    ("name", "now", "wanted", "goal"),
    [
        ("ReLU", [-1.0, 2.0, -1.0, 0.5], [-3.0, -3.0, 2.0, 1.0], [-1.0, 0.0, 2.0, 1.0]),
        ("ReLU6", [7.0, 2.0, -1.0], [9.0, 9.0, -2.0], [7.0, 6.0, -1.0]),
        ("GELU", [-5.0, 1.0], [-9.0, 2.0], [-5.0, 2.0]),
        ("Tanh", [1.0], [9.0], [9.0]),
    ],
)
def test_aims_go_as_far_as_the_non_linearity_lets_through(
    name: str, now: list[float], wanted: list[float], goal: list[float]
) -> None:
    aim = activation_target(activation(name).activation)
    reached = torch.tensor(now) + aim(torch.tensor(now), torch.tensor(wanted))
    assert reached.tolist() == pytest.approx(goal)
