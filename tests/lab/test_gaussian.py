import math

import pytest
import torch
from torch import Tensor

from tsdistill.errors import TsdistillError
from tsdistill.lab.gaussian.convergence_region import (
    ball_probability,
    ball_radius,
    flow_distances,
    gaussian_probability,
    in_guaranteed_region,
    plane_coordinates,
    sgd_end,
)
from tsdistill.lab.gaussian.critical_points import (
    component_outside_span,
    critical_point,
    find_critical_point,
    orbit_dimension,
    random_rotation,
    symmetric_saddle,
    symmetric_students,
    symmetric_velocity,
)
from tsdistill.lab.gaussian.expected_loss import expected_loss, monte_carlo, velocity
from tsdistill.lab.gaussian.gradient_flow import gradient_flow, integrate


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("students", "teachers", "dimension"), [(1, 1, 2), (3, 2, 5), (8, 5, 12), (4, 9, 1)])
def test_the_closed_gradient_is_that_of_the_closed_loss(students: int, teachers: int, dimension: int) -> None:
    w, goal = drawn(students, dimension).requires_grad_(), drawn(teachers, dimension, seed=1)
    (pulled,) = torch.autograd.grad(expected_loss(w, goal), w)
    torch.testing.assert_close(velocity(w, goal).total, -pulled, rtol=1e-10, atol=1e-12)


def test_gradient_and_loss_are_the_sampled_ones() -> None:
    w, goal = drawn(4, 6), drawn(3, 6, seed=1)
    found = monte_carlo(w, goal, 200_000, torch.Generator().manual_seed(2))
    assert ((found.velocity - velocity(w, goal).total) / found.velocity_error).abs().max() < 4.5
    assert ((found.loss - expected_loss(w, goal)) / found.loss_error).abs() < 4
    assert found.velocity_error.max() < 0.05 * velocity(w, goal).total.norm()


def test_one_node_splits_as_in_the_paper() -> None:
    w, goal = drawn(1, 7), drawn(1, 7, seed=3)
    cosine = torch.cosine_similarity(w[0], goal[0], dim=0)
    angle = torch.acos(cosine)
    ratio = goal.norm() / w.norm()
    parts = velocity(w, goal)
    torch.testing.assert_close(parts.linear, (goal - w) / 2)
    torch.testing.assert_close(parts.nonlinear, -(angle * goal - ratio * angle.sin() * w) / (2 * math.pi))


def test_velocity_is_batched_and_still_at_the_teacher_and_at_dead_nodes() -> None:
    goal = drawn(3, 4)
    several = drawn(5, 2, 4, seed=1)
    torch.testing.assert_close(velocity(several, goal).total[2], velocity(several[2], goal).total)
    assert velocity(goal.flip(0), goal).total.abs().max() < 1e-14
    assert velocity(torch.zeros(2, 4).double(), goal).total.abs().max() == 0


@pytest.mark.parametrize(("students", "teachers"), [((2, 3), (2, 4)), ((0, 3), (2, 3)), ((2, 0), (1, 0))])
def test_nodes_that_do_not_fit(students: tuple[int, int], teachers: tuple[int, int]) -> None:
    with pytest.raises(TsdistillError):
        velocity(torch.ones(students), torch.ones(teachers))


def test_the_integrator_is_exact_to_its_tolerance_and_sets_do_not_disturb_one_another() -> None:
    rates = torch.tensor([[0.1], [1.0], [30.0]]).double()
    found = integrate(lambda y: -y * y[:, 1:], torch.cat([torch.ones(3, 1).double(), rates], 1), [0.0])
    assert torch.equal(found[0, :, 0], torch.ones(3).double())
    start = torch.cat([torch.ones(3, 1).double(), rates], 1)
    path = integrate(lambda y: torch.cat([-y[:, :1] * y[:, 1:], 0 * y[:, 1:]], 1), start, [0.5, 2.0])
    torch.testing.assert_close(path[1, :, 0], torch.exp(-2 * rates[:, 0]), rtol=0, atol=1e-5)
    alone = integrate(lambda y: torch.cat([-y[:, :1] * y[:, 1:], 0 * y[:, 1:]], 1), start[1:2], [0.5, 2.0])
    torch.testing.assert_close(alone[:, 0], path[:, 1], rtol=0, atol=1e-12)
    with pytest.raises(TsdistillError):
        integrate(lambda y: y, start, [1.0, 0.5])


def test_loss_falls_along_the_flow_and_the_linear_part_goes_straight() -> None:
    goal, start = drawn(2, 5), drawn(6, 3, 5, seed=1)
    path = gradient_flow(start, goal, [0.1, 1.0, 10.0, 100.0])
    loss = expected_loss(torch.cat([start.unsqueeze(0), path]), goal)
    assert (loss.diff(dim=0) < 1e-12).all()
    one = gradient_flow(start[:, :1], goal[:1], [3.0], linear=True)[0]
    torch.testing.assert_close(one, goal[0] + math.exp(-1.5) * (start[:, :1] - goal[0]), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("dimension", "deviation"), [(2, 0.5), (5, 0.1), (30, 0.05), (100, 0.01)])
def test_chances_are_counted_ones(dimension: int, deviation: float) -> None:
    teacher = torch.eye(dimension).double()[0]
    draws = drawn(40_000, dimension)
    counted = in_guaranteed_region(deviation * draws, teacher).double().mean()
    assert abs(float(counted) - gaussian_probability(dimension, deviation)) < 0.012
    share = torch.rand(len(draws), 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ball = draws / draws.norm(dim=1, keepdim=True) * share ** (1 / dimension)
    reach = ball_radius(0.5, dimension)
    counted = in_guaranteed_region(reach * ball, teacher).double().mean()
    assert abs(float(counted) - ball_probability(dimension, reach)) < 0.012


@pytest.mark.parametrize("dimension", [2, 3, 10, 100, 1000])
@pytest.mark.parametrize("epsilon", [0.01, 0.5, 0.99])
def test_the_ball_of_the_theorem_keeps_its_promise(dimension: int, epsilon: float) -> None:
    assert ball_probability(dimension, ball_radius(epsilon, dimension)) >= (1 - epsilon) / 2


def test_one_node_in_its_plane_moves_as_in_all_dimensions() -> None:
    teacher = 2.5 * torch.eye(9).double()[3]
    start = drawn(30, 9)
    path = gradient_flow(start.unsqueeze(1), teacher.unsqueeze(0), [0.5, 3.0, 20.0])[:, :, 0]
    wanted = (path - teacher).norm(dim=-1) / teacher.norm()
    torch.testing.assert_close(
        flow_distances(plane_coordinates(start, teacher), [0.5, 3.0, 20.0]), wanted, rtol=1e-4, atol=1e-5
    )


def test_within_the_region_the_distance_falls_and_descent_gets_there() -> None:
    teacher = torch.eye(8).double()[0]
    start = 0.3 * drawn(3000, 8)
    start = start[in_guaranteed_region(start, teacher)]
    rate = ((start - teacher) * velocity(start.unsqueeze(1), teacher.unsqueeze(0)).total[:, 0]).sum(1)
    assert len(start) > 200
    assert rate.max() < 0
    ended = sgd_end(start, teacher, 60.0, 64, torch.Generator().manual_seed(0))[0]
    assert (ended - teacher).norm(dim=1).max() < 1e-3


@pytest.mark.parametrize("count", [2, 3, 5, 10])
def test_the_symmetric_saddle_and_the_teachers_are_critical(count: int) -> None:
    x = symmetric_saddle(count)
    assert symmetric_velocity(torch.tensor([[x, x], [1, 0]], dtype=torch.float64), count).abs().max() < 1e-12
    known = critical_point(
        symmetric_students(torch.tensor([x, x], dtype=torch.float64), count), torch.eye(count).double()
    )
    assert known.kind() == "saddle"
    assert critical_point(torch.eye(count).double(), torch.eye(count).double()).kind() == "minimum"


def test_students_that_are_permutations_stay_so() -> None:
    plane = torch.tensor([0.7, 0.2]).double()
    full = velocity(symmetric_students(plane, 4), torch.eye(4).double()).total
    torch.testing.assert_close(full, symmetric_students(symmetric_velocity(plane, 4), 4))


def test_critical_points_outside_the_span_turn_into_others_and_are_flat() -> None:
    teachers = torch.eye(2, 5).double()
    start = torch.tensor([[0.5, 0.5, 0.3, 0.1, 0.2], [0.5, 0.5, -0.3, -0.1, -0.2]]).double()
    point = find_critical_point(start, teachers)
    assert point is not None
    assert component_outside_span(point.students, teachers).norm() > 0.1
    assert orbit_dimension(point.students, teachers) == 2 == point.flat()
    for seed in range(5):
        turn = random_rotation(teachers, torch.Generator().manual_seed(seed))
        torch.testing.assert_close(turn @ turn.T, torch.eye(5).double())
        torch.testing.assert_close(teachers @ turn.T, teachers)
        assert torch.linalg.det(turn) > 0
        other = point.students @ turn.T
        assert velocity(other, teachers).total.abs().max() < 1e-12
        assert (other - point.students).norm() > 1e-3
