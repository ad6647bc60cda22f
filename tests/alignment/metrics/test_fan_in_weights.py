from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import FrozenBatchNorm2d

from tests.alignment.metrics.stored import scales, seeds
from tests.networks import images, mlp, randomise, residual
from tsdistill.alignment.metrics.fan_in_weights import WeightCosine, fan_in, fan_ins
from tsdistill.alignment.metrics.gates import GateAgreement
from tsdistill.alignment.metrics.metric_protocols import FanIn
from tsdistill.tracing import trace


def _fan(seed: int, nodes: int, *inputs: int) -> FanIn:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(nodes, *inputs, generator=generator, dtype=torch.float64)
    return FanIn(weight, torch.randn(nodes, generator=generator, dtype=torch.float64), "made up")


def _table(student: FanIn, teacher: FanIn) -> Tensor:
    table = WeightCosine().from_weights(student, teacher)
    assert table is not None
    return table


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_the_table_is_the_cosine_of_weights_and_bias(seed: int) -> None:
    s, t = _fan(seed, 5, 3, 2, 2), _fan(seed + 1, 4, 3, 2, 2)
    rows, columns = (np.column_stack([f.weight.flatten(1).numpy(), f.bias.numpy()]) for f in (s, t))
    reference = rows @ columns.T / np.outer(np.linalg.norm(rows, axis=1), np.linalg.norm(columns, axis=1))
    np.testing.assert_allclose(_table(s, t), reference, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(seeds, st.permutations(range(5)), scales)
def test_permuting_and_rescaling_nodes_only_permutes(
    seed: int, order: list[int], factors: list[float]
) -> None:
    s, t = _fan(seed, 5, 6), _fan(seed + 1, 4, 6)
    factor = torch.tensor(factors, dtype=torch.float64)
    after = _table(FanIn(s.weight[order] * factor[:, None], s.bias[order] * factor, ""), t)
    before = _table(s, t)
    torch.testing.assert_close(after, before[order], atol=1e-12, rtol=0)
    torch.testing.assert_close(_table(t, s), before.T)
    assert bool((before.abs() <= 1).all())
    own = _table(s, s).diagonal()
    torch.testing.assert_close(own, torch.ones_like(own))


def test_nodes_without_weights_and_inputs_of_another_shape() -> None:
    s, t = _fan(0, 3, 4), _fan(1, 2, 4)
    s.weight[1], s.bias[1] = 0, 0
    table = _table(s, t)
    assert bool((table[1] == 0).all())
    assert bool((table[[0, 2]] != 0).all())
    assert WeightCosine().from_weights(_fan(0, 3, 4, 1), _fan(0, 3, 2, 2)) is None
    assert WeightCosine().from_weights(_fan(0, 3, 4), _fan(0, 3, 5)) is None


def test_only_groups_on_the_raw_input_have_a_fan_in() -> None:
    model, x = residual(), images(1)
    fans = fan_ins(model, trace(model, x), x)
    assert list(fans) == ["stem"]
    assert fans["stem"].weight.shape == (8, 3, 3, 3)
    assert fans["stem"].weight.dtype == fans["stem"].bias.dtype == torch.float64
    assert fans["stem"].described == "stem.weight, with norm"


def test_the_folded_norm_gives_the_normalised_pre_activation() -> None:
    model, x = residual(seed=3), images(4)
    fan = fan_ins(model, trace(model, x[:1]), x[:1])["stem"]
    with torch.no_grad():
        wanted = model.norm(model.stem(x))
        found = functional.conv2d(x.double(), fan.weight, fan.bias, padding=1)
    torch.testing.assert_close(found.float(), wanted, atol=1e-5, rtol=1e-5)


LAYERS = {
    "transposed": (nn.ConvTranspose2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.Conv2d(6, 2, 1)),
    "frozen norm": (nn.Conv2d(3, 6, 3), FrozenBatchNorm2d(6), nn.Conv2d(6, 2, 1)),
    "linear": (nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)),
    "no bias": (nn.Linear(5, 6, bias=False), nn.BatchNorm1d(6, affine=False), nn.Linear(6, 2)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_the_fan_in_of_other_layers(kind: str) -> None:
    layer, norm, out = LAYERS[kind]
    model = randomise(nn.Sequential(layer, norm, nn.ReLU(), out), seed=1)
    x = torch.randn(3, *((5,) if isinstance(layer, nn.Linear) else (3, 4, 4)))
    fan = fan_ins(model, trace(model, x[:1]), x[:1])["0"]
    apply = {"transposed": functional.conv_transpose2d, "frozen norm": functional.conv2d}
    weight = fan.weight.transpose(0, 1) if kind == "transposed" else fan.weight
    found = apply.get(kind, functional.linear)(x.double(), weight, fan.bias)
    with torch.no_grad():
        torch.testing.assert_close(found.float(), norm(layer(x)), atol=1e-5, rtol=1e-5)


def test_a_group_written_elsewhere_or_in_pieces_has_none() -> None:
    class Shuffled(nn.Module):
        """Each node is four output channels of the first layer."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 16, 1), nn.Conv2d(4, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(functional.relu(functional.pixel_shuffle(self.first(x), 2)))

    model, x = Shuffled(), images(1)
    (group,) = trace(model, x).groups
    assert group.writers == ("first.weight",)
    assert fan_in(model, group, {}) is None
    assert fan_ins(model, trace(model, x), x) == {}


def test_the_same_boundary_in_another_width_is_found() -> None:
    teacher, student = mlp(6, 4, 3, seed=1), mlp(6, 7, 3, seed=2)
    with torch.no_grad():
        student[0].weight[2:6] = 5 * teacher[0].weight[[3, 0, 2, 1]]
        student[0].bias[2:6] = 5 * teacher[0].bias[[3, 0, 2, 1]]
    x = torch.zeros(1, 6)
    mine, theirs = (fan_ins(model, trace(model, x), x)["0"] for model in (student, teacher))
    table = _table(mine, theirs)
    assert table.shape == (7, 4)
    assert table.argmax(1)[2:6].tolist() == [3, 0, 2, 1]
    assert float(table.max(1).values[2:6].min()) > 1 - 1e-12
    assert float(table.max(1).values[[0, 1, 6]].max()) < 0.95


def test_gates_of_gaussian_inputs_tell_the_angle_that_the_weights_tell() -> None:
    teacher, student = _fan(0, 4, 6), _fan(1, 5, 6)
    x = torch.randn(200_000, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    counts = GateAgreement().start(5, 4)
    counts.update(x @ student.weight.T, x @ teacher.weight.T)
    zeros = torch.zeros(5, dtype=torch.float64)
    cosine = _table(FanIn(student.weight, zeros, ""), FanIn(teacher.weight, zeros[:4], ""))
    torch.testing.assert_close(counts.finish(), 1 - 2 * cosine.acos() / torch.pi, atol=0.01, rtol=0)
