import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tsdistill.pruning.realignment.ridge_regression import RIDGES, UNSEEN, DualRidge, Ridge, ridge_regression


def problem_of(x: Tensor, target: Tensor, *, constant: bool = True, first: int | None = None) -> Ridge:
    first = x.shape[1] // 2 if first is None else first
    problem = Ridge((x[:, :first].clone(), x[:, first:].clone()), constant)
    problem.set_target(target)
    return problem


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), groups=st.integers(1, 3), constant=st.booleans(), mean=st.floats(-50, 50))
def test_what_is_linear_is_found(seed: int, groups: int, constant: bool, mean: float) -> None:
    torch.manual_seed(seed)
    x, true = torch.randn(groups, 400, 6) + mean * constant, torch.randn(groups, 6, 4)
    target = x @ true + (3.0 if constant else 0.0)
    problem = problem_of(x, target, constant=constant)
    assert problem.choose() == RIDGES[0]
    delta, c = problem.solve()
    assert (x.double() @ delta + c - target).abs().max() < 2e-3 * (1 + abs(mean))


def test_the_solution_is_the_one_of_ridge_regression() -> None:
    torch.manual_seed(0)
    x, target = torch.randn(1, 90, 5) * torch.tensor([1.0, 5, 0.1, 2, 1]) + 4, torch.randn(1, 90, 3)
    problem = problem_of(x, target, first=30)
    problem.ridge = 0.1
    delta, c = problem.solve()
    centred, wanted = (v[0].double() - v[0].double().mean(0) for v in (x, target))
    gram = centred.T @ centred
    expected = torch.linalg.solve(gram + 0.1 * gram.diag().diag(), centred.T @ wanted)
    torch.testing.assert_close(delta[0], expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(
        c[0, 0], target[0].double().mean(0) - x[0].double().mean(0) @ expected, atol=1e-5, rtol=1e-4
    )


def test_chance_is_not_believed() -> None:
    torch.manual_seed(1)
    x, target = torch.randn(1, 60, 40), torch.randn(1, 60, 8)
    assert problem_of(x, target).choose() is None


def test_noise_asks_for_a_larger_ridge() -> None:
    torch.manual_seed(2)
    x, true = torch.randn(1, 120, 50), torch.randn(1, 50, 8)
    clean = problem_of(x, x @ true).choose()
    noisy = problem_of(x, x @ true + 20 * torch.randn(1, 120, 8)).choose()
    assert clean is not None
    assert noisy is None or noisy > clean


@pytest.mark.parametrize("rows", [1, 4])
def test_a_singular_covariance_gives_finite_weights(rows: int) -> None:
    x = torch.ones(2, rows, 12)
    x[..., :3] = torch.randn(2, rows, 3)
    problem = problem_of(x, torch.randn(2, rows, 5), first=rows)
    assert problem.choose() == UNSEEN
    delta, c = problem.solve()
    assert torch.isfinite(delta).all()
    assert torch.isfinite(c).all()


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 1000),
    groups=st.integers(1, 2),
    constant=st.booleans(),
    rows=st.integers(4, 40),
    entries=st.integers(2, 60),
    noise=st.sampled_from([0.0, 1.0, 10.0]),
)
def test_both_forms_of_the_problem_have_one_solution(
    seed: int, groups: int, constant: bool, rows: int, entries: int, noise: float
) -> None:
    torch.manual_seed(seed)
    x = torch.randn(groups, rows, entries) * (0.2 + torch.rand(entries)) + constant
    target = x @ torch.randn(groups, entries, 3) + noise * torch.randn(groups, rows, 3)
    forms = [
        kind((x[:, : rows // 2].clone(), x[:, rows // 2 :].clone()), constant) for kind in (Ridge, DualRidge)
    ]
    results = []
    for form in forms:
        form.set_target(target)
        form.ridge = 0.1
        results.append((*form.solve(), form.predict(form.solve()[0])))
    for one, other in zip(*results, strict=True):
        size = float(one.abs().max())
        torch.testing.assert_close(one.double(), other.double(), atol=1e-3 * (1 + size), rtol=0)
    assert torch.allclose(
        results[1][2].double(), x.double() @ results[1][0] + results[1][1], atol=1e-3, rtol=1e-3
    )
    assert isinstance(ridge_regression((x, x), constant), DualRidge if 2 * rows < entries else Ridge)


@pytest.mark.parametrize("kind", [Ridge, DualRidge])
def test_both_forms_choose_by_unseen_rows(kind: type[Ridge | DualRidge]) -> None:
    torch.manual_seed(3)
    x, true = torch.randn(1, 80, 100) * torch.logspace(0, -3, 100), torch.randn(1, 100, 4)
    clean, chance = kind((x[:, :40].clone(), x[:, 40:].clone()), True), kind((x[:, :40], x[:, 40:]), True)
    clean.set_target(x @ true)
    chance.set_target(torch.randn(1, 80, 4))
    assert clean.choose() is not None
    assert chance.choose() is None
