from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from tests.digits import digits
from tests.networks import untrained_mlp
from tsdistill.augmentation import Setting, augmented, opened, prepared
from tsdistill.augmentation.boundary_samples import BoundaryProjection, TeacherAware
from tsdistill.augmentation.teacher_nodes import nodes_of
from tsdistill.errors import TsdistillError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ready(teacher: nn.Module, x: Tensor, **options: object) -> TeacherAware:
    strategy = TeacherAware(**options)  # type: ignore[arg-type]
    return strategy.prepare(Setting(teacher, lambda: x.split(50), generator()))


def standardised(count: int) -> Tensor:
    x, _ = digits(count)
    return (x - x.mean()) / x.std()


class Functional(nn.Module):
    """A small ConvNet on digits without a module for its rectifiers, one of them in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.second = nn.Conv2d(6, 8, 3, stride=2)
        self.last = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.norm(self.first(x)), inplace=True)
        return self.last(functional.relu(self.second(x)).mean((2, 3)))


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    dimensions=st.integers(2, 60),
    hidden=st.integers(1, 12),
    seed=st.integers(0, 2**20),
    scale=st.floats(0.05, 2),
)
def test_first_layer_is_met_exactly_and_both_sides_differ_in_sign(
    dimensions: int, hidden: int, seed: int, scale: float
) -> None:
    teacher = untrained_mlp(dimensions, hidden, 3, seed=seed)
    teacher[0].bias.data.mul_(0.3)
    x = torch.randn(40, dimensions, generator=generator(seed))
    strategy = ready(teacher, x, scale=scale, share=1.0, copies=True, steps=1)
    assert strategy.nodes is not None
    made, labels = augmented(strategy, x, torch.arange(40), generator(seed + 1), 10)
    assert torch.equal(labels, torch.arange(40).repeat(3))
    nodes = strategy.nodes.channel[strategy.nodes.draw(40, generator(seed + 1))]
    with torch.no_grad():
        z = teacher[0](made).view(3, 40, hidden)[:, torch.arange(40), nodes]
    spread = strategy.nodes.spread[nodes].float()
    assert (z[0].abs() < 1e-5 * (1 + teacher[0].weight.norm(dim=1)[nodes])).all()
    torch.testing.assert_close(z[1], scale * spread, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(z[2], -scale * spread, atol=1e-4, rtol=1e-3)
    step = made[80:] - made[:40]
    along = functional.cosine_similarity(step, -teacher[0].weight.detach()[nodes], dim=1)
    torch.testing.assert_close(along, torch.ones(40), atol=1e-4, rtol=0)


def test_the_first_convolution_is_met_at_one_position_and_nothing_else_of_the_picture_moves() -> None:
    x = standardised(60)
    teacher = Functional().eval()
    nodes = nodes_of(teacher, [x], generator(), depth=1)
    assert nodes.call.unique().tolist() == [0]
    aim = BoundaryProjection(
        teacher, nodes, nodes.draw(60, generator(1)), torch.rand(60, generator=generator(2))
    )
    onto, normal = aim.approach(x, steps=1)
    z, _ = aim.pre_activations(onto)
    assert float((z.abs() / nodes.spread.min()).max()) < 1e-5
    assert ((onto != x).flatten(1).sum(1) <= 9).all()
    for sign in (1.0, -1.0):
        beside, _ = aim.pre_activations(onto + sign * 0.1 * normal)
        torch.testing.assert_close(beside, torch.full_like(beside, sign * 0.1), atol=1e-5, rtol=0)


def test_newton_steps_reach_deeper_boundaries() -> None:
    teacher = untrained_mlp(20, 40, 40, 40, 5)
    x = torch.randn(300, 20, generator=generator())
    nodes = nodes_of(teacher, x.split(100), generator())
    deep = (nodes.call == 2).nonzero()[:, 0]
    chosen = deep[torch.randint(len(deep), (300,), generator=generator(1))]
    aim = BoundaryProjection(teacher, nodes, chosen, torch.zeros(300))
    before, _ = aim.pre_activations(x)
    reached, distance = [], []
    for steps in (1, 5):
        z, _ = aim.pre_activations(aim.approach(x, steps)[0])
        assert (z.abs() <= before.abs()).all()
        relative = z.abs() / nodes.spread[chosen].float()
        reached.append(float((relative < 1e-3).float().mean()))
        distance.append(float(relative.median()))
    assert reached[1] > 0.9 > reached[0]
    assert distance[1] < 1e-5 < distance[0]


def test_nodes_are_drawn_by_strength() -> None:
    teacher = untrained_mlp(10, 4, 1)
    with torch.no_grad():
        teacher[0].weight.div_(teacher[0].weight.norm(dim=1, keepdim=True))
        teacher[0].bias.zero_()
        teacher[2].weight.copy_(torch.tensor([[4.0, 2.0, 1.0, 0.0]]))
    x = torch.randn(4000, 10, generator=generator())
    nodes = nodes_of(teacher, [x], generator(1), samples=4000)
    torch.testing.assert_close(
        nodes.strength / nodes.strength[2],
        torch.tensor([4.0, 2.0, 1.0, 0.0], dtype=torch.float64),
        atol=0.05,
        rtol=0.08,
    )
    torch.testing.assert_close(nodes.spread, torch.ones(4, dtype=torch.float64), atol=0.05, rtol=0)
    drawn = torch.bincount(nodes.draw(7000, generator(2)), minlength=4) / 1000
    torch.testing.assert_close(drawn, torch.tensor([4.0, 2.0, 1.0, 0.0]), atol=0.3, rtol=0)


def test_strength_is_that_of_the_analysis() -> None:
    import tsdistill as tsd

    teacher = untrained_mlp(64, 12, 10)
    x = standardised(400).flatten(1)
    (group,) = tsd.analyze(teacher, data=x, analysis={"for_pruning": False, "strength_samples": 400}).groups
    nodes = nodes_of(teacher, x.split(100), generator(), samples=400)
    torch.testing.assert_close(nodes.strength, torch.as_tensor(group.strength), rtol=0.2, atol=0)


def test_rectifiers_of_every_spelling_are_found_and_the_teacher_stays_as_it_was() -> None:
    x = standardised(30)
    teacher = Functional().train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    outside = torch.get_rng_state()
    strategy = ready(teacher, x, share=1.0)
    assert strategy.nodes is not None
    assert torch.bincount(strategy.nodes.call).tolist() == [6, 8]
    first, again, other = (strategy(x, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == x.shape
    assert teacher.training
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in teacher.parameters())
    assert torch.equal(outside, torch.get_rng_state())


def test_tokens_have_their_nodes_in_the_last_dimension() -> None:
    teacher = nn.Sequential(
        nn.Unflatten(1, (8, 8)), nn.Linear(8, 5), nn.GELU(), nn.Flatten(), nn.Linear(40, 3)
    )
    x = standardised(40).flatten(1)
    nodes = nodes_of(teacher, [x], generator())
    assert nodes.channel.tolist() == [0, 1, 2, 3, 4]
    aim = BoundaryProjection(teacher, nodes, torch.arange(40) % 5, torch.rand(40, generator=generator(3)))
    moved = aim.approach(x, 1)[0]
    rows = (moved != x).view(40, 8, 8).any(2).sum(1)
    assert rows.unique().tolist() == [1]
    assert float(aim.pre_activations(moved)[0].abs().max()) < 1e-5


def test_share_says_how_many_move() -> None:
    x = torch.randn(400, 16, generator=generator())
    teacher = untrained_mlp(16, 8, 2)
    assert torch.equal(ready(teacher, x, share=0.0)(x, generator()), x)
    for copies, blocks in ((False, 1), (True, 3)):
        made = ready(teacher, x, share=0.25, copies=copies)(x, generator()).view(blocks, 400, 16)
        moved = (made != x).any(2)
        assert 60 < int(moved[0].sum()) < 140
        assert all(torch.equal(block, moved[0]) for block in moved)


def test_a_sample_that_no_gradient_moves_stays() -> None:
    teacher = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 1))
    with torch.no_grad():
        teacher[0].bias.fill_(-100)
    x = torch.randn(10, 3, generator=generator())
    aim = BoundaryProjection(
        teacher, nodes_of(untrained_mlp(3, 4, 2, 1), [x], generator()), torch.full((10,), 4), torch.zeros(10)
    )
    onto, normal = aim.approach(x, 5)
    assert torch.equal(onto, x)
    assert not normal.any()


@pytest.mark.parametrize(
    ("teacher", "message"),
    [(None, "none is given; give teacher"), (nn.Linear(5, 2), "no node with a rectifier")],
)
def test_a_teacher_with_boundaries_is_needed(teacher: nn.Module | None, message: str) -> None:
    x = torch.randn(20, 5)
    with pytest.raises(TsdistillError, match=message):
        prepared(opened("teacher-aware"), Setting(teacher, lambda: [x], generator()))


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(TsdistillError, match="share=2"):
        opened("teacher-aware:share=2")
    with pytest.raises(TsdistillError, match="prepare it"):
        TeacherAware()(torch.zeros(2, 3), generator())
    with pytest.raises(TsdistillError, match="no samples"):
        prepared(opened("teacher-aware"), Setting(untrained_mlp(3, 2, 1), list, generator()))
