"""Gradients, observers, strengths and the bound of two-layer students, against their definitions."""

from __future__ import annotations

import math

import pytest
import torch

from tsdistill.lab.engine import Networks, decaying_teachers, random_students
from tsdistill.lab.layers.theorem_quantities import (
    implied_precision,
    lowest_gradients,
    misalignment,
    net_strengths,
    node_strengths,
    observed_by,
    observer_mask,
    project_on_boundary,
    recovery_precision,
    without_fan_out,
)

D = torch.float64


@pytest.fixture
def pair():
    return decaying_teachers(range(3), 6, 4, 5, 1.0, dtype=D), random_students(range(3), 6, (9,), 5, dtype=D)


@pytest.fixture
def x():
    return torch.randn(128, 6, generator=torch.Generator().manual_seed(5), dtype=D)


def test_lowest_gradients_are_autograds(pair, x):
    teachers, students = pair
    largest, ratio = lowest_gradients(teachers, students, x)
    for s in range(3):
        model, wanted = students.module(s), teachers.module(s)(x).detach()
        z = model[0](x).detach().requires_grad_()
        out = model[2](z.relu())
        (g,) = torch.autograd.grad((wanted - out).square().sum() / 2, z, retain_graph=True)
        (whole,) = torch.autograd.grad(out, z, wanted)
        assert float(largest[s]) == pytest.approx(float(g.abs().max()))
        scale = whole.norm(dim=1).square().mean().sqrt()
        torch.testing.assert_close(ratio[s], g.norm(dim=1) / scale)


def test_misalignment_is_precise_where_it_is_small_and_counts_the_other_side_as_far():
    angle = torch.tensor([1e-12, 1e-6, 0.3], dtype=D)
    student = torch.stack([angle.cos(), angle.sin()], 1) * 4
    student = torch.cat([student, torch.tensor([[-1.0, 0.0], [0.0, 2.0]], dtype=D)])
    found = misalignment(torch.tensor([[2.0, 0.0]], dtype=D), student)[0]
    assert found.tolist() == pytest.approx([1e-12, 1e-6, math.sin(0.3), 1, 1], rel=1e-4)


def test_precision_counts_the_bias(pair):
    teachers, _ = pair
    exact = Networks((2 * teachers.fan_in, teachers.fan_out), (2 * teachers.biases[0],))
    moved = Networks((2 * teachers.fan_in, teachers.fan_out), (2 * teachers.biases[0] + 0.1,))
    assert float(recovery_precision(teachers, exact).max()) < 1e-12
    assert float(recovery_precision(teachers, moved).min()) > 1e-3


def test_the_bound_is_proportional_to_the_gradient():
    alpha = torch.tensor([0.5, 2.0, 0.0, -1.0], dtype=D)
    gradient = alpha[:2] * 0.01 / (5 * 20**1.5 * 10**0.5)
    granted = implied_precision(gradient, alpha[:2], 20, 10)
    torch.testing.assert_close(granted, torch.full_like(granted, 0.01))
    assert implied_precision(1.0, alpha, 20, 10)[2:].isinf().all()


def test_observers_are_active_on_the_boundary(x):
    weight, bias = torch.tensor([[1.0, 0, 0, 0, 0, 0]], dtype=D), torch.tensor([0.2], dtype=D)
    points = project_on_boundary(x, weight[0], bias[0])
    torch.testing.assert_close(points[:, 0], torch.full((len(x),), -0.2, dtype=D))
    torch.testing.assert_close(points[:, 1:], x[:, 1:])
    student = torch.zeros(4, 6, dtype=D)
    student[0, 0], student[1, 0], student[2, 3], student[3, 3] = 1, -1, 1, 1
    fan_out = torch.ones(4, 2, dtype=D)
    fan_out[3] = 0
    found = observed_by(x, (weight, bias), (student, torch.zeros(4, dtype=D)), fan_out)
    assert found.observers[0].tolist() == [False, True, True, False]
    assert float(found.share[0, 2]) == pytest.approx(0.5, abs=0.1)
    hidden = observed_by(x, (weight, bias + 100), (student, None), fan_out)
    assert not hidden.seen.any()
    assert not hidden.observed.any()


def test_alpha_is_the_best_observers(pair, x):
    teachers, students = pair
    who, alpha = observer_mask(teachers, students, x)
    for s in range(3):
        every = teachers.fan_out[s] @ students.fan_out[s].T
        for j in range(4):
            best = max([float(every[j, k]) for k in range(9) if who[s, j, k]] + [0.0])
            assert float(alpha[s, j]) == pytest.approx(best)


def test_fan_outs_on_one_boundary_cancel(x):
    fan_in = torch.randn(1, 4, 6, generator=torch.Generator().manual_seed(1), dtype=D)
    fan_in[0, 1] = 3 * fan_in[0, 0]
    fan_out = torch.ones(1, 4, 2, dtype=D)
    fan_out[0, 1] = -fan_out[0, 0] / 3
    students = Networks((fan_in, fan_out))
    own, net = node_strengths(students, x)[0], net_strengths(students, x)[0]
    assert float(own[:2].min()) > 0.1
    assert float(net[:2].max()) < 1e-12
    torch.testing.assert_close(net[2:], own[2:])
    leaving = torch.tensor([[True, True, False, False]])
    torch.testing.assert_close(without_fan_out(students, leaving)(x), students(x))
