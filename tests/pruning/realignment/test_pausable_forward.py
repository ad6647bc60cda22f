import threading

import pytest
import torch
from torch import Tensor, nn

from tsdistill.errors import TsdistillError
from tsdistill.pruning.realignment.pausable_forward import PausableForward, pauses
from tsdistill.runtime.calls import Calls
from tsdistill.runtime.forward import forward


class Chain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Linear(3, 4), nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.three(self.two(self.one(x).relu()).relu())


def test_walks_are_held_before_or_behind_each_stop() -> None:
    model, batches = Chain(), [torch.randn(6, 3), torch.randn(2, 3)]
    threads = threading.active_count()
    with pauses(model, ["one", "three"], after=False):
        walks = [PausableForward(model, x, (), "model") for x in batches]
        for walk, x in zip(walks, batches, strict=True):
            held = walk.advance("one")
            assert held is not None
            assert torch.equal(held, x)
        for walk, x in zip(walks, batches, strict=True):
            held = walk.advance("three")
            assert held is not None
            torch.testing.assert_close(held, model.two(model.one(x).relu()).relu())
            walk.advance(None)
    for walk in walks:
        walk.abandon()
    assert threading.active_count() == threads
    with pauses(model, ["two"], after=True):
        walk = PausableForward(model, batches[0], (), "model")
        torch.testing.assert_close(walk.advance("two"), model.two(model.one(batches[0]).relu()))
        walk.abandon()
    assert threading.active_count() == threads
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def test_a_layer_changed_at_a_stop_acts_on_what_follows() -> None:
    model, x = Chain(), torch.randn(4, 3)
    with pauses(model, ["two", "three"], after=False):
        walk = PausableForward(model, x, (), "model")
        before = walk.advance("two")
        assert before is not None
        with torch.no_grad():
            model.two.weight.mul_(3)
        torch.testing.assert_close(walk.advance("three"), model.two(before).relu())
        walk.abandon()


def test_a_forward_that_fails_fails_where_it_is_advanced() -> None:
    model = Chain()
    with pauses(model, ["two"], after=False):
        walk = PausableForward(model, torch.randn(4, 7), (), "model")
        with pytest.raises(TsdistillError, match="forward fails"):
            walk.advance("two")
        walk.abandon()


def test_results_of_calls_are_captured_and_dropped() -> None:
    model, x = Chain(), torch.randn(4, 3)
    calls = Calls()
    with torch.no_grad(), calls:
        forward(model, x)
    first, second = [call.number for call in calls.calls if call.name in ("linear", "relu")][:2]
    with pauses(model, ["three"], after=False):
        walk = PausableForward(model, x, (first, second), "model")
        walk.advance("three")
        torch.testing.assert_close(walk.captured.results[first], model.one(x))
        torch.testing.assert_close(walk.captured.results[second], model.one(x).relu())
        walk.captured.drop(first)
        assert list(walk.captured.results) == [second]
        walk.abandon()


def test_the_output_of_a_block_is_replaced_for_all_that_follows() -> None:
    model, x = nn.Sequential(nn.Sequential(Chain()), nn.Linear(2, 2)), torch.randn(4, 3)
    calls = Calls()
    with torch.no_grad(), calls:
        forward(model, x)
    inner = [call.number for call in calls.calls if call.name == "linear"][2]
    with pauses(model, ["1"], after=False, blocks=["0"]):
        walk = PausableForward(model, x, [inner], "model")
        walk.advance("0")
        entered, version = walk.entered["0"]
        assert torch.equal(entered, x)
        assert entered._version == version
        walk.replace(torch.ones(4, 2))
        assert torch.equal(walk.captured.results[inner], torch.ones(4, 2))
        held = walk.advance("1")
        assert held is not None
        assert torch.equal(held, torch.ones(4, 2))
        walk.abandon()
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
