"""How far the theorems' conditions hold for a pair: the figures against their definitions."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.networks import untrained_mlp
from tsdistill.errors import TsdistillError
from tsdistill.lab import check
from tsdistill.lab.layers.theorem_quantities import implied_precision


@pytest.fixture
def x() -> Tensor:
    return torch.randn(96, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def teacher() -> Any:
    return untrained_mlp(6, 4, 5, seed=0)


def copied(teacher: Any, nodes: int, act: nn.Module | None = None) -> Any:
    """An over-realised student with the teacher's function."""
    student = untrained_mlp(6, nodes, 5, seed=1, act=act)
    with torch.no_grad():
        student[2].weight.zero_()
        student[0].weight[:4], student[0].bias[:4] = teacher[0].weight, teacher[0].bias
        student[2].weight[:, :4] = teacher[2].weight
        student[2].bias.copy_(teacher[2].bias)
    return student


def held(found, start: str) -> bool | None:
    return next(claim.held for claim in found.claims if claim.text.startswith(start))


def test_all_conditions_hold_for_a_student_with_the_teachers_function(teacher, x):
    found = check(copied(teacher, 8), teacher, x)
    assert found.held
    assert found.student[0].gradient_worst < 1e-5
    assert found.observed == 1
    assert found.precision is not None
    assert max(found.precision) < 0.01
    assert "hold" in found.advice


def test_gradient_is_the_outputs_difference_carried_back(teacher, x):
    student = untrained_mlp(6, 8, 5, seed=3)
    found = check(student, teacher, x)
    z = student[0](x).detach().requires_grad_()
    out = student[2](z.relu())
    left, whole = (
        torch.autograd.grad(out, z, target, retain_graph=True)[0].norm(dim=1)
        for target in (teacher(x) - out, teacher(x))
    )
    ratio = left / whole.square().mean().sqrt()
    assert found.student[0].gradient == pytest.approx(float(ratio.quantile(0.5)), rel=1e-4)
    assert found.student[0].gradient_worst == pytest.approx(float(ratio.quantile(0.95)), rel=1e-4)
    assert held(found, "the gradient is small at") is False
    assert "still be learning" in found.advice


def test_precision_is_what_the_theorem_grants_at_the_largest_gradient(teacher, x):
    student = copied(teacher, 8)
    with torch.no_grad():
        student[2].weight += 1e-3
    found = check(student, teacher, x, inputs={"samples": 96})
    error = (teacher(x) - student(x)).detach()
    g = (error @ student[2].weight.detach()) * (student[0](x) > 0)
    on = (teacher[0](x) > 0).float()
    both = torch.einsum("bk,bj->kj", torch.ones(len(x), 8), torch.ones_like(on)) / len(x)
    alpha = (student[2].weight.T @ teacher[2].weight).detach() * both
    wanted = implied_precision(float(g.abs().max()), alpha.max(0).values, 12, 7)
    assert torch.tensor(found.precision) == pytest.approx(wanted, rel=0.5)


def test_an_in_place_rectifier_changes_nothing(teacher, x):
    plain = check(copied(teacher, 8, nn.ReLU()), untrained_mlp(6, 4, 5, seed=4), x)
    inplace = check(copied(teacher, 8, nn.ReLU(inplace=True)), untrained_mlp(6, 4, 5, seed=4), x)
    assert inplace.to_dict() == plain.to_dict()


def test_leaky_rectifiers_are_rectifiers_and_others_are_not(teacher, x):
    leaky = untrained_mlp(6, 8, 5, seed=1, act=nn.LeakyReLU(0.2))
    assert held(check(leaky, teacher, x), "every node is") is True
    smooth = check(untrained_mlp(6, 8, 5, seed=1, act=nn.GELU()), teacher, x)
    assert held(smooth, "every node is") is False
    assert 0.9 < smooth.student[0].rectified < 0.999
    assert "do not cover" in smooth.advice
    other = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 5), nn.Tanh())
    assert held(check(other, teacher, x), "every node is") is False


def test_a_boundary_outside_the_data_is_not_seen(x):
    teacher = untrained_mlp(6, 4, 5, seed=0)
    with torch.no_grad():
        teacher[0].bias[1] = 50
    found = check(copied(teacher, 8), teacher, x)
    assert found.teacher[0].crossed == 0.75
    assert held(found, "the data cross") is False
    assert "not observed" in found.advice


def test_a_boundary_is_observed_only_by_nodes_that_are_active_on_it(teacher, x):
    student = copied(teacher, 8)
    with torch.no_grad():
        student[0].weight[1:] = 0
        student[0].bias[1:] = -1
        student[0].weight[0] = teacher[0].weight[2]
        student[0].bias[0] = teacher[0].bias[2] - 1e-2
    found = check(student, teacher, x, points=8)
    assert found.observed == 0.75
    assert found.observers == 1


def test_a_narrow_student_is_not_over_realised(teacher, x):
    assert held(check(untrained_mlp(6, 3, 5, seed=1), teacher, x), "the student is over-realised") is False


def test_convolutions_and_repeated_rectifiers_have_names():
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
            self.act, self.out = nn.ReLU(inplace=True), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.act(self.one(x))
            return self.out(self.act(self.two(x)).mean((2, 3)))

    torch.manual_seed(0)
    student, teacher = Block().train(), Block()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    found = check(student, teacher, torch.randn(16, 2, 5, 5), points=2)
    assert [layer.place for layer in found.student] == ["act", "act#2"]
    assert student.training
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in student.parameters())
    json.dumps(found.to_dict())


@pytest.mark.parametrize(
    ("student", "data", "said"),
    [
        (untrained_mlp(6, 8, 4, seed=0), torch.randn(8, 6), "4 values a sample and the teacher 5"),
        (nn.Sequential(nn.Linear(6, 5)), torch.randn(8, 6), "no rectifier"),
        (
            nn.Sequential(nn.Embedding(7, 6), nn.Flatten(), nn.Linear(12, 5)),
            torch.randint(7, (8, 2)),
            "float",
        ),
    ],
)
def test_pairs_that_cannot_be_checked(student, data, said, teacher):
    with pytest.raises(TsdistillError, match=said):
        check(student, teacher, data, inputs={"example_input": data[:1]})
