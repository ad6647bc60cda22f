from __future__ import annotations

import pytest
import torch

from tsdistill import plugins
from tsdistill.errors import TsdistillError
from tsdistill.evaluation.metric import (
    KIND,
    RunningMean,
    Traits,
    labels_given,
    reference_given,
    traits_of,
    wants_of,
)


class Old:
    """A metric from before there were traits."""

    needs = frozenset({"labels"})


class Loud:
    needs: frozenset[str] = frozenset()
    wants = "loud"


def test_traits_of_the_built_in_metrics() -> None:
    expected = {
        "top1": Traits("%", True),
        "top5": Traits("%", True),
        "agreement": Traits("%", True),
        "kl": Traits("nats", False),
        "mse": Traits("", False),
        "mae": Traits("", False),
        "output_mse": Traits("", False),
    }
    assert {name: traits_of(plugins.get(KIND, name)) for name in expected} == expected
    assert wants_of(plugins.get(KIND, "output_mse"), "output_mse") == "outputs"


def test_what_a_metric_does_not_say() -> None:
    assert traits_of(Old) == Traits("", True)
    assert wants_of(Old, "old") == "main"
    with pytest.raises(TsdistillError, match=r"loud .*'loud'"):
        wants_of(Loud, "loud")


def test_plain_data() -> None:
    traits = Traits("mm", False)
    assert Traits(**traits.to_dict()) == traits


def test_what_has_to_be_there() -> None:
    labels = torch.zeros(2)
    assert labels_given(labels, "x") is labels
    assert reference_given([1], "x") == [1]
    with pytest.raises(TsdistillError, match="x needs labels"):
        labels_given(None, "x")
    with pytest.raises(TsdistillError, match="x needs a reference"):
        reference_given(None, "x")


def test_a_running_mean() -> None:
    mean = RunningMean()
    with pytest.raises(TsdistillError, match="no samples"):
        mean.compute()
    mean._add(3.0, 2)
    mean._add(1.0, 2)
    assert mean.compute() == 1.0
