from __future__ import annotations

import pytest

from tsdistill import plugins
from tsdistill.alignment.metrics import WANTS, BatchMetric, MomentMetric, WeightMetric

WANTED = {
    "correlation": "moments",
    "cosine": "moments",
    "gates": "batches",
    "weights": "weights",
    "cka": "covariances",
    "cca": "covariances",
    "svcca": "covariances",
}
PROTOCOLS = {
    "moments": MomentMetric,
    "covariances": MomentMetric,
    "batches": BatchMetric,
    "weights": WeightMetric,
}


@pytest.mark.parametrize("name", WANTED)
def test_the_built_ins_are_registered_through_the_hooks(name: str) -> None:
    metric = plugins.get("alignment metric", name)
    assert metric.name == name
    assert metric.wants == WANTED[name]
    assert isinstance(metric, PROTOCOLS[metric.wants])
    assert plugins.origin("alignment metric", name) == "tsdistill"


def test_every_want_is_shown_by_a_built_in() -> None:
    assert set(WANTED.values()) == set(WANTS) == set(PROTOCOLS)


def test_a_name_that_is_nearly_right_is_suggested() -> None:
    with pytest.raises(Exception, match=r"'corelation'.*\bcorrelation"):
        plugins.get("alignment metric", "corelation")
