import torch
import torch.nn.functional as F

from tsdistill.runtime.calls import Calls, Captured


def work(x: torch.Tensor) -> torch.Tensor:
    rows = x.shape[0]
    return F.relu(x @ x.T / rows).sum(0, keepdim=True)


def test_calls_are_written_down_and_can_be_made_again() -> None:
    x, calls = torch.randn(4, 3), Calls()
    with calls:
        made = work(x)
    names = [call.name for call in calls.calls]
    assert "relu" in names
    assert "size" not in names
    relu = calls.calls[names.index("relu")]
    (given,) = relu.tensors()
    assert torch.equal(relu.output, given.relu())
    other = torch.randn(2, 2)
    assert torch.equal(relu.again(given, other), other.relu())
    assert calls.calls[-1].output is made


def test_numbers_are_those_that_captured_counts_by() -> None:
    x, calls = torch.randn(4, 3), Calls()
    with calls:
        work(x)
    relu = next(call for call in calls.calls if call.name == "relu")
    other = torch.randn(6, 3)
    captured = Captured([relu.number, calls.calls[-1].number])
    with captured:
        made = work(other)
    assert torch.equal(captured.results[relu.number], (other @ other.T / 6).relu())
    assert captured.results[calls.calls[-1].number] is made
    captured.drop(relu.number)
    captured.drop(None)
    assert list(captured.results) == [calls.calls[-1].number]
