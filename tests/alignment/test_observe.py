from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.alignment.small import images, mlp, residual
from tsdistill.alignment.metrics import Correlation
from tsdistill.alignment.observe import observe
from tsdistill.alignment.sites import Sites, find_sites
from tsdistill.errors import TsdistillError
from tsdistill.tracing import trace


def _sites(model: nn.Module, example: Tensor) -> Sites:
    return find_sites(model, trace(model, example, check=False))


def _batches(x: Tensor, size: int = 16) -> list[tuple[Tensor, None]]:
    return [(part, None) for part in x.split(size)]


def _inputs(model: nn.Module, name: str, x: Tensor) -> Tensor:
    seen: list[Tensor] = []
    handle = model.get_submodule(name).register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    with torch.no_grad():
        model(x)
    handle.remove()
    return seen[0]


def test_covariances_equal_those_of_stored_activations() -> None:
    model, x = residual(), images(40)
    found = observe(model, _sites(model, x[:1]), _batches(x), positions=None)
    assert found.samples == 40
    for name in ("first", "second"):
        stored = _inputs(model, name, x).permute(1, 0, 2, 3).flatten(1).double().numpy()
        np.testing.assert_allclose(found.covariances[name].matrix, np.cov(stored, bias=True), atol=1e-5)
        np.testing.assert_allclose(found.covariances[name].mean, stored.mean(1), atol=1e-5)


def test_a_subset_of_positions_estimates_the_same() -> None:
    model, x = residual(), images(300)
    sites = _sites(model, x[:1])
    whole = observe(model, sites, _batches(x), positions=None).covariances["first"].matrix
    part = observe(model, sites, _batches(x), positions=16).covariances["first"]
    assert part.rows == 300 * 16
    scale = np.sqrt(np.outer(np.diag(whole), np.diag(whole)))
    assert np.max(np.abs((part.matrix - whole) / scale)) < 0.08


def test_layers_that_read_the_same_tensor_share_one_covariance() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.write, self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 3), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.relu(self.write(x))
            return self.a(h) + self.b(h) * self.a(h.clone())

    model, x = Twice(), torch.randn(30, 4)
    found = observe(model, _sites(model, x[:1]), _batches(x)).covariances
    assert found["b"] is found["a"]
    assert found["a"].rows == 60


def test_the_model_and_its_hooks_are_as_before() -> None:
    model, x = residual(), images(8)
    model.train()
    model.norm.eval()
    model.stem.weight.requires_grad_(False)
    state = copy.deepcopy(model.state_dict())
    sites = _sites(model, x[:1])
    observe(model, sites, _batches(x), teacher=model, teacher_sites=sites, pairs={"stem": "stem"})
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert model.training
    assert not model.norm.training
    assert not model.stem.weight.requires_grad
    assert model.head.weight.requires_grad
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_pair_moments_equal_correlations_of_stored_activations(offset: float) -> None:
    student, teacher, x = mlp(6, 20, 3, seed=1), mlp(6, 9, 3, seed=2), torch.randn(500, 6)
    student.get_parameter("0.bias").data += offset
    mine, theirs = _sites(student, x[:1]), _sites(teacher, x[:1])
    found = observe(
        student, mine, _batches(x, 64), teacher=teacher, teacher_sites=theirs, pairs={"0": "0"}
    ).pairs["0"]
    s = _inputs(student, "2", x).double().numpy()
    t = _inputs(teacher, "2", x).double().numpy()
    reference = np.corrcoef(s.T, t.T)[:20, 20:]
    alive = (s.std(0) > 0)[:, None] & (t.std(0) > 0)[None]
    np.testing.assert_allclose(Correlation().from_moments(found).numpy()[alive], reference[alive], atol=1e-5)
    np.testing.assert_allclose(found.mean_s(), s.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.var_t(), t.var(0), rtol=1e-4, atol=1e-9)


def test_pairs_of_maps_see_the_same_positions_and_pool_to_the_coarser() -> None:
    x = images(20)

    class Net(nn.Module):
        def __init__(self, stride: int) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 2, 1)
            self.stride = stride

        def forward(self, x: Tensor) -> Tensor:
            return self.b(nn.functional.avg_pool2d(self.a(x), self.stride)).mean((2, 3))

    fine, coarse = Net(1), Net(2)
    coarse.load_state_dict(fine.state_dict())
    found = observe(
        fine,
        _sites(fine, x[:1]),
        _batches(x),
        teacher=coarse,
        teacher_sites=_sites(coarse, x[:1]),
        pairs={"a": "a"},
        positions=7,
    )
    table = Correlation().from_moments(found.pairs["a"])
    assert found.pairs["a"].n == 20 * 7
    torch.testing.assert_close(table.diagonal(), torch.ones(5, dtype=torch.float64), atol=1e-5, rtol=0)


def test_activations_that_are_not_finite_name_the_layer() -> None:
    model, x = mlp(4, 5, 5, 2), torch.ones(4, 4)
    model[2].weight.data[0] = 3e38
    model.get_parameter("0.bias").data += 1e9
    with pytest.raises(TsdistillError, match="enter layer '4' are not finite"):
        observe(model, _sites(model, torch.zeros(1, 4)), _batches(x))


def test_data_that_do_not_fit_or_are_missing_are_one_line() -> None:
    model = mlp(4, 5, 2)
    sites = _sites(model, torch.zeros(1, 4))
    with pytest.raises(TsdistillError, match=r"forward failed on an input of shape \(3, 7\)"):
        observe(model, sites, [(torch.zeros(3, 7), None)])
    with pytest.raises(TsdistillError, match="no samples"):
        observe(model, sites, [])
