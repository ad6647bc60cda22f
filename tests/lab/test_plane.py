import math

import pytest
import torch

from tsdistill.errors import TsdistillError
from tsdistill.lab.layers import plane_networks


def test_steps_are_those_of_autograd() -> None:
    generator = torch.Generator().manual_seed(0)
    goals, pairs = (
        plane_networks.plane_teachers(3, 2, 4, generator),
        plane_networks.plane_students(3, 5, 4, 0.5, generator),
    )
    fan_in, fan_out = pairs.fan_in.clone().requires_grad_(), pairs.fan_out.clone().requires_grad_()
    torch_sgd = torch.optim.SGD([fan_in, fan_out], lr=0.3, momentum=0.9)
    plane_networks.train_pairs(pairs, goals, 2, 0.3, 64, torch.Generator().manual_seed(1), lambda step: None)
    generator = torch.Generator().manual_seed(1)
    for step in range(2):
        torch_sgd.param_groups[0]["lr"] = 0.3 * (1 if step < 1 else 0.1)
        x = plane_networks.square_points(64, generator)
        torch_sgd.zero_grad()
        plane_networks.pair_losses(plane_networks.Pairs(fan_in, fan_out), goals, x).sum().backward()
        if step == 1:
            for value in (fan_in, fan_out):
                torch_sgd.state[value]["momentum_buffer"] /= 0.1
        torch_sgd.step()
    torch.testing.assert_close(pairs.fan_in, fan_in.detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(pairs.fan_out, fan_out.detach(), rtol=1e-4, atol=1e-6)


def test_segments_and_gaps() -> None:
    assert plane_networks.boundary_segment((1, 0, -0.5)) == ((0.5, -1), (0.5, 1))
    assert plane_networks.boundary_segment((1, 1, 0)) == ((-1, 1), (1, -1))
    assert plane_networks.boundary_segment((1, 0, -1.5)) is None
    assert plane_networks.boundary_segment((0, 0, 1)) is None
    assert plane_networks.boundary_distance((2, 0, -1), (1, 0, -0.5)) == 0
    assert plane_networks.boundary_distance((1, 0, -0.5), (-3, 0, 1.8)) == pytest.approx(0.1)
    assert plane_networks.boundary_distance((1, 0, 0), (0, 1, 0)) == pytest.approx(1)
    assert plane_networks.boundary_distance((1, 0, -1.5), (0, 1, 0)) == math.inf


def test_teachers_cross_the_square_apart_with_norms_that_decay() -> None:
    goals = plane_networks.plane_teachers(40, 3, 5, torch.Generator().manual_seed(0), decay=2.0)
    norms = goals.fan_out.norm(dim=2)
    torch.testing.assert_close(norms, torch.tensor([1, 1 / 4, 1 / 9]).expand(40, 3))
    for lines in goals.fan_in.mT.tolist():
        assert all(plane_networks.boundary_segment(line) is not None for line in lines)
        angles = [math.atan2(line[1], line[0]) % math.pi for line in lines]
        apart = [abs(a - b) for a in angles for b in angles if a != b]
        assert min(min(each, math.pi - each) for each in apart) > 0.6 * math.pi / 3 - 1e-6
    with pytest.raises(TsdistillError, match="7"):
        plane_networks.plane_teachers(1, 7, 2, torch.Generator())


def test_correlation_of_a_copy_is_one_whatever_its_scale() -> None:
    generator = torch.Generator().manual_seed(3)
    goals = plane_networks.plane_teachers(2, 2, 3, generator)
    copies = plane_networks.Pairs(3 * goals.fan_in.flip(2), goals.fan_out.flip(1))
    found, strength = plane_networks.pair_correlations(
        copies, goals, plane_networks.square_points(2000, generator)
    )
    torch.testing.assert_close(found[:, [0, 1], [1, 0]], torch.ones(2, 2).double())
    assert (strength > 0).all()
