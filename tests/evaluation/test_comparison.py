from __future__ import annotations

import dataclasses
import json
import math

import pytest

from tsdistill.evaluation import Comparison, Traits

FULL = Comparison(
    names=("dense", "small"),
    params=(200, 50),
    macs=(4000, 3000),
    latency=(0.01, 0.005),
    metrics=({"top1": 90.0, "score": 1.0}, {"top1": 88.5, "score": math.inf}),
    data="40 samples",
    file_size=(1000, 0),
    latency_spread=(0.001, 0.0),
    throughput=(100.0, 250.0),
    throughput_spread=(1.0, 2.0),
    peak_memory=(0, 10),
    batch_size=16,
    device="cpu, 1 thread",
    traits={"top1": Traits("%"), "score": Traits("", False)},
    notes=("a note",),
)
OLD = {
    "data": "",
    "models": [{"name": "a", "params": 1, "macs": 2, "latency": 0.5, "metrics": {"top1": 50.0}}],
}


def test_ratios_are_over_the_first_model() -> None:
    assert FULL.ratios("params") == (1, 0.25)
    assert FULL.ratios("throughput") == (1, 2.5)
    assert all(math.isnan(ratio) for ratio in FULL.ratios("peak_memory"))
    assert Comparison(("a",), (1,), (1,), (1.0,), ({},)).ratios("file_size") == ()


def test_json_and_back() -> None:
    plain = json.loads(json.dumps(FULL.to_dict(), allow_nan=False))
    small = plain["models"][1]
    assert small["metrics"] == {"top1": 88.5, "score": None}
    assert small["ratios"]["macs"] == 0.75
    assert small["ratios"]["peak_memory"] is None
    assert plain["metrics"]["score"] == {"unit": "", "higher_is_better": False}
    back = Comparison.from_dict(plain)
    assert math.isnan(back.metrics[1]["score"])
    assert dataclasses.replace(back, metrics=FULL.metrics) == FULL


def test_what_was_not_measured_is_left_out() -> None:
    old = Comparison.from_dict(OLD)
    assert old.throughput == old.file_size == ()
    plain = old.to_dict()["models"][0]
    assert set(plain) == {"name", "params", "macs", "latency", "ratios", "metrics"}
    assert "samples/s" not in str(old)


def test_as_text() -> None:
    header, dense, small = str(FULL).splitlines()
    for word in ("params", "MACs", "bytes", "ms", "samples/s", "peak bytes", "top1", "score"):
        assert word in header
    assert dense.split()[:3] == ["dense", "200", "4,000"]
    assert "250.0" in small
    assert FULL.figures == ("top1", "score")
    with pytest.raises(dataclasses.FrozenInstanceError):
        FULL.names = ()  # type: ignore[misc]
