from __future__ import annotations

from pathlib import Path

import pluggy
import pytest
import torch

from tsdistill import plugins
from tsdistill.data import open_data
from tsdistill.data.builtin_data import register_data_sources
from tsdistill.models.info import InputSpec


def test_the_built_in_sources_come_through_the_hook() -> None:
    names = plugins.names("data source")
    assert {"folder", "array", "synthetic", "fashion-mnist", "cifar10", "torch", "hfds", "wds"} <= set(names)
    found: dict[str, object] = {}
    register_data_sources(found.__setitem__)
    assert set(found) <= set(names)
    assert isinstance(plugins.hookimpl, pluggy.HookimplMarker)


def test_a_source_is_asked_by_its_name_with_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def ramp(argument: str, spec: InputSpec) -> torch.utils.data.Dataset:
        asked.append((argument, spec.size))
        return torch.utils.data.TensorDataset(torch.arange(12.0).reshape(4, 3), torch.arange(4))

    monkeypatch.setattr(plugins, "items", lambda kind: {"ramp": ramp})
    ((x, y),) = open_data("ramp:a:b", InputSpec((3,)))
    assert asked == [("a:b", (3,))]
    assert x.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]
    assert y.tolist() == [0, 1, 2, 3]


def test_an_existing_folder_wins_over_a_name(
    photographs: Path, monkeypatch: pytest.MonkeyPatch, spec: InputSpec
) -> None:
    monkeypatch.chdir(photographs.parent)
    Path("torch").symlink_to(photographs)
    try:
        assert open_data("torch", spec).samples == 9
        assert open_data("torch/animals", spec).samples == 3
    finally:
        Path("torch").unlink()
