import json

import pytest
import torch

from tsdistill.errors import TsdistillError
from tsdistill.lab import engine
from tsdistill.lab.engine import cached, cached_tensors, observation_steps
from tsdistill.lab.engine.memory_estimate import check_memory, training_bytes
from tsdistill.lab.engine.node_statistics import curve_points, l_curve, mean, rank_correlation, rounded
from tsdistill.lab.experiment import StudentSettings


def test_what_is_kept_is_not_made_again(tmp_path):
    made = []

    def make():
        made.append(1)
        return {"a": [1.5, None]}

    folder = tmp_path / "new" / "cells"
    for _ in range(2):
        assert cached(folder, "cell", {"p": (1, 2)}, make) == {"a": [1.5, None]}
    assert len(made) == 1
    cached(folder, "cell", {"p": (1, 3)}, make)
    assert len(made) == 2
    assert len(list(folder.iterdir())) == 2
    cached(None, "cell", {"p": (1, 2)}, make)
    assert len(made) == 3


def test_a_file_that_is_broken_or_another_one_is_made_anew(tmp_path):
    cached(tmp_path, "cell", {"p": 1}, lambda: 1)
    (file,) = tmp_path.iterdir()
    file.write_text("{")
    assert cached(tmp_path, "cell", {"p": 1}, lambda: 2) == 2
    file.write_text(json.dumps({"key": {"p": 7}, "value": 0}))
    assert cached(tmp_path, "cell", {"p": 1}, lambda: 3) == 3


def test_tensors_are_kept_with_what_belongs_to_them(tmp_path):
    tensors = {"w": torch.randn(3, 4, dtype=torch.float64).T}
    cached_tensors(tmp_path, "part", {"p": 1}, lambda: (tensors, {"loss": 0.25}))

    def never():
        raise AssertionError

    found, value = cached_tensors(tmp_path, "part", {"p": 1}, never)
    assert torch.equal(found["w"], tensors["w"])
    assert value == {"loss": 0.25}


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TsdistillError, match="file"):
        cached(tmp_path / "file" / "cells", "cell", {}, lambda: 1)


def test_more_memory_than_there_is_is_refused_with_what_to_reduce():
    cpu = torch.device("cpu")
    check_memory(training_bytes(8, 100, (5,), (50,), 50, 16), cpu, "--seeds")
    with pytest.raises(TsdistillError, match="--seeds"):
        check_memory(training_bytes(10**7, 100, (5,), (5000,), 50, 16), cpu, "--seeds")


def test_the_estimate_covers_the_weights_and_grows_with_everything():
    base = training_bytes(10, 20, (5,), (50,), 8, 16)
    assert base > 4 * 10 * (20 * 50 + 50 * 8 + 20 * 5 + 5 * 8)
    assert training_bytes(1000, 20, (5,), (50,), 8, 16) > base
    assert training_bytes(10, 20, (5,), (5000,), 8, 16) > base
    assert training_bytes(10, 20, (5,), (50,), 8, 1600) > base
    assert training_bytes(10, 20, (5,), (50,), 8, 16, dtype=torch.float64) > base


def test_a_device_that_does_not_exist_is_refused():
    def device(name):
        settings = StudentSettings(device=name, dtype="float64")
        return engine.training_device(settings, 1, 2, (1,), (2,), samples=4, reduce="--seeds")

    assert device("cpu") == {"dtype": torch.float64, "device": torch.device("cpu")}
    for name in ("cuda:99", "toaster"):
        with pytest.raises(TsdistillError, match=name):
            device(name)


@pytest.mark.parametrize("steps", [1, 2, 7, 50_000])
def test_spaced_steps_rise_from_the_start_to_the_end(steps):
    at = observation_steps(steps, 16, max(1, steps // 10))
    assert at[0] == 0
    assert at[-1] == steps
    assert max(1, steps // 10) in at
    assert list(at) == sorted(set(at))
    assert len(at) <= 18


def test_rank_correlation_is_spearmans():
    assert rank_correlation([1, 2, 3], [10, 20, 40]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert rank_correlation([1, 2, 2, 3], [1, 3, 2, 4]) == pytest.approx(0.9486833)
    assert mean([rank_correlation([1, 1], [1, 2]), 2.0]) == 2.0


def test_the_l_curve_tells_who_has_the_strength():
    correlation = torch.tensor([[0.1, 0.4, 0.6], [0.93, 0.97, -0.2]])
    strength = torch.tensor([[0.1, 0.3, 1.0], [2.0, 4.0, 0.2]])
    curve = l_curve(correlation, strength)
    assert sum(curve["count"]) == 6
    assert curve["ratio"] == pytest.approx(0.2 / 3, rel=1e-3)
    assert curve["unaligned"] == pytest.approx((0.01 + 0.09 + 1 + 0.04) / 21.14, rel=1e-3)
    assert l_curve(correlation[:1], strength[:1])["ratio"] is None
    assert len(curve_points(correlation, strength, 4)) <= 4
    assert rounded(torch.tensor([1.23456, float("nan")])) == [1.235, None]
