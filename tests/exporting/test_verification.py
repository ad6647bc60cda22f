import pytest
import torch
from torch import nn

from tests.exporting.networks import Pairs, vectors
from tsdistill.errors import TsdistillError
from tsdistill.exporting.export_inputs import Example
from tsdistill.exporting.verification import check
from tsdistill.runtime.nests import tensors

EXAMPLE = Example.of(torch.randn(2, 8))


def running(model, change=lambda y: y):
    return lambda *args: [change(t) for t in tensors(model(*args))]


def test_the_largest_difference_and_what_it_was_seen_on():
    model = vectors()
    off = torch.tensor([[0.0, 1e-6, 0.0]])
    found = check(model, running(model, lambda y: y + off), EXAMPLE, dynamic=True, by="torch")
    assert found.difference == pytest.approx(1e-6, rel=0.2)
    assert (found.by, found.inputs, found.batches) == ("torch", 3, (1, 3, 2))
    assert 0.1 < found.largest < 10
    assert check(model, running(model), EXAMPLE, dynamic=False, by="torch").batches == (2,)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda y: y * 1.01, "differs from the module"),
        (lambda y: torch.where(y == y.max(), torch.nan, y), "differs from the module"),
        (lambda y: y[:, :2], "gives [1, 2]"),
        (lambda y: y.reshape(2, 3), "fails on a batch of 1.*dynamic_batch=False"),
    ],
)
def test_another_output_is_an_error(change, said):
    model = vectors()
    said = said if ".*" in said else said.replace("[", r"\[").replace("]", r"\]")
    with pytest.raises(TsdistillError, match=said):
        check(model, running(model, change), EXAMPLE, dynamic=True, by="torch")


def test_exact_means_every_bit():
    model = vectors()
    with pytest.raises(TsdistillError, match="differs"):
        check(model, running(model, lambda y: y + 1e-7), EXAMPLE, dynamic=False, by="torch", exact=True)
    assert check(model, running(model), EXAMPLE, dynamic=False, by="torch", exact=True).difference == 0


def test_whole_numbers_may_not_differ():
    class Best(nn.Module):
        def forward(self, x):
            return x.argmax(-1) + 1000

    with pytest.raises(TsdistillError, match="differs"):
        check(Best(), running(Best(), lambda y: y + 1), EXAMPLE, dynamic=False, by="torch")


def test_a_module_bound_to_its_batch():
    with pytest.raises(TsdistillError, match=r"batch of 1.*dynamic_batch=False"):
        check(Pairs(), running(Pairs()), EXAMPLE, dynamic=True, by="torch")


def test_the_same_infinities_are_no_difference():
    class Endless(nn.Module):
        def forward(self, x):
            return torch.stack([x.sum(), x.sum() / 0, torch.nan * x.sum()])

    assert check(Endless(), running(Endless()), EXAMPLE, dynamic=True, by="torch").difference == 0
