"""The polyline between two students: where the function must not change, and where the loss is convex."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.networks import untrained_mlp
from tsdistill.errors import TsdistillError
from tsdistill.lab.layers.layer_chain import select_nodes
from tsdistill.lab.layers.polyline import Polyline, connecting_polyline, straight_line


def mlp(seed: int, *sizes: int, bias: bool = True) -> Any:
    return untrained_mlp(*sizes, seed=seed, bias=bias).double()


def specialised(teacher: Any, nodes: int, seed: int) -> Any:
    """A student with the teacher's function: two nodes, scaled, for each of its nodes, at random places."""
    student = mlp(seed, teacher[0].in_features, nodes, teacher[2].out_features)
    m = teacher[0].out_features
    places = torch.randperm(nodes)
    with torch.no_grad():
        student[2].weight.zero_()
        for j in range(m):
            for place, share in ((places[j], 0.3), (places[m + j], 0.7)):
                scale = 0.5 + float(torch.rand(()))
                student[0].weight[place] = teacher[0].weight[j] * scale
                student[0].bias[place] = teacher[0].bias[j] * scale
                student[2].weight[:, place] = teacher[2].weight[:, j] * share / scale
        student[2].bias.copy_(teacher[2].bias)
    return student


def losses(path: Polyline, x: Tensor, y: Tensor, points: int = 7) -> tuple[list[float], list[float]]:
    def loss(state):
        return float((path.chain.output(state, x) - y).square().sum(1).mean())

    return path.along(loss, points)[1], [loss(vertex) for vertex in path.vertices]


@pytest.mark.parametrize("keep", [None, [4]])
def test_students_with_the_teachers_function_are_joined_at_no_loss(keep):
    teacher = mlp(0, 7, 4, 5)
    x = torch.randn(300, 7, dtype=torch.float64)
    y = teacher(x).detach()
    one, two = specialised(teacher, 12, 1), specialised(teacher, 12, 2)
    path = connecting_polyline(one, two, x, keep=keep)
    found, _ = losses(path, x, y)
    assert max(found) < 1e-18
    assert max(losses(straight_line(one, two), x, y)[0]) > 1e-2


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("bias", [True, False])
def test_two_layer_loss_is_nowhere_above_the_vertices_whatever_the_students(seed, bias):
    one, two = (mlp(2 * seed + k, 5, 9, 3, bias=bias) for k in (0, 1))
    x, fresh = torch.randn(2, 64, 5, dtype=torch.float64).unbind()
    y = mlp(99, 5, 3, 3)(fresh).detach()
    path = connecting_polyline(one, two, x)
    found, ends = losses(path, fresh, y)
    assert max(found) <= max(ends) * (1 + 1e-12)


def convnet(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, stride=2), nn.LeakyReLU(), nn.Flatten(), nn.Linear(8 * 4, 10), nn.ReLU(),
        nn.Linear(10, 4),
    ).double()  # fmt: skip
    model(torch.randn(64, 2, 10, 10, dtype=torch.float64))
    return model.eval()


def test_ends_are_the_students_and_moves_between_free_slots_leave_the_function():
    one, two = convnet(0), convnet(1)
    x = torch.randn(40, 2, 10, 10, dtype=torch.float64)
    path = connecting_polyline(one, two, x)
    out = [path.chain.output(vertex, x) for vertex in path.vertices]
    torch.testing.assert_close(out[0], one(x).detach())
    torch.testing.assert_close(out[-1], two(x).detach())
    handed = path.segments.index("output handed over")
    resting = {handed - 1, handed + 1, handed + 2, handed + 3}
    for segment in resting:
        half = path.chain.output(path.at(segment + 0.4), x)
        torch.testing.assert_close(half, out[segment])
        torch.testing.assert_close(out[segment + 1], out[segment])
    torch.testing.assert_close(
        path.chain.output(path.at(handed + 0.25), x), 0.75 * out[handed] + 0.25 * out[handed + 1]
    )
    moved = [
        any(not torch.equal(value, path.vertices[k + 1][name]) for name, value in path.vertices[k].items())
        for k in resting
    ]
    assert all(moved)


def test_deep_students_with_copies_lose_nothing_either():
    small = mlp(3, 6, 4, 5, 3)

    def doubled(seed: int) -> Any:
        big = mlp(seed, 6, 8, 10, 3)
        with torch.no_grad():
            first, second = torch.randperm(8), torch.randperm(10)
            big[0].weight[first] = small[0].weight.repeat(2, 1)
            big[0].bias[first] = small[0].bias.repeat(2)
            rows = torch.zeros(10, 8, dtype=torch.float64)
            share = 0.2 + 0.6 * torch.rand(10, 4, dtype=torch.float64)
            twice = small[2].weight.repeat(2, 1)
            rows[:, first] = torch.cat([twice * share, twice * (1 - share)], 1)
            big[2].weight[second] = rows
            big[2].bias[second] = small[2].bias.repeat(2)
            last = torch.zeros(3, 10, dtype=torch.float64)
            last[:, second] = torch.cat([small[4].weight * 0.3, small[4].weight * 0.7], 1)
            big[4].weight.copy_(last)
            big[4].bias.copy_(small[4].bias)
        return big

    x = torch.randn(200, 6, dtype=torch.float64)
    path = connecting_polyline(doubled(1), doubled(2), x)
    found, _ = losses(path, x, small(x).detach())
    assert max(found) < 1e-16


def test_the_node_that_costs_least_leaves_first():
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(500, 4, generator=generator, dtype=torch.float64)
    h = torch.cat([h, h[:, :1] + h[:, 1:2], torch.zeros(500, 1, dtype=torch.float64)], 1)
    readers = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    readers[3] *= 1e-3
    cov = h.T @ h / len(h)
    assert len(set(select_nodes(cov, readers, 4).tolist()) & {0, 1, 4}) == 2
    assert select_nodes(cov, readers, 3).tolist() == [
        k for k in select_nodes(cov, readers, 4).tolist() if k != 3
    ]


def test_a_node_whose_readers_vanish_once_they_took_another_over_is_free():
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(500, 3, generator=generator, dtype=torch.float64)
    h = torch.cat([h, h[:, :1] + h[:, 1:2]], 1)
    cov = h.T @ h / len(h)
    readers = torch.tensor([[1.0], [1.0], [0.1], [1.0]], dtype=torch.float64)
    assert select_nodes(cov, readers, 2).tolist() == [2, 3]


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: (mlp(0, 4, 6, 2), mlp(0, 4, 8, 2), None), "differ in shape"),
        (lambda: (mlp(0, 4, 6, 2), mlp(1, 4, 6, 2), [4]), "keep from 1 to 3"),
        (lambda: (mlp(0, 4, 6, 2), mlp(1, 4, 6, 2), [2, 2]), "one each"),
        (lambda: (nn.Linear(2, 2), nn.Linear(2, 2), None), "is no chain"),
        (lambda: (nn.Sequential(nn.Linear(2, 2), nn.GELU(), nn.Linear(2, 2)),) * 2 + (None,), "no GELU"),
        (lambda: (nn.Sequential(nn.Linear(2, 2)),) * 2 + (None,), "at least two layers"),
    ],
)
def test_what_cannot_be_joined_is_said_in_a_line(build, said):
    one, two, keep = build()
    with pytest.raises(TsdistillError, match=said):
        connecting_polyline(one, two, torch.randn(8, 4), keep=keep)
