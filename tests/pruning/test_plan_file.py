from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.networks import mlp
from tsdistill.errors import TsdistillError
from tsdistill.pruning import PrunedGroup, PruningPlan
from tsdistill.tracing import trace

FIGURES = {"params": 10, "macs": 20, "nodes": 5}


def _plan() -> PruningPlan:
    group = PrunedGroup(6, (4, 1), ("dead", "cheapest"), (0.0, 0.25))
    return PruningPlan("timm:x", "at most 0.5", True, "data", {"0": group}, FIGURES, FIGURES)


def test_a_plan_comes_back_from_json(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    text = _plan().to_json(path)
    assert path.read_text() == text
    for source in (path, str(path), text):
        assert PruningPlan.from_json(source) == _plan()
    assert _plan().removed == {"0": [1, 4]}
    assert _plan().reasons == {"0": {"dead": 1, "cheapest": 1}}
    assert "2 of 6 nodes leave (1 dead, 1 cheapest)" in str(_plan())
    assert os.listdir(tmp_path) == ["plan.json"]


def _set(*path: Any, value: Any) -> Callable[[dict[str, Any]], Any]:
    def change(data: dict[str, Any]) -> Any:
        place = data
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        return data

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: [], "no valid '(format|kind)'|should be a mapping"),
        (lambda data: {"kind": "alignment"}, "no valid '(format|kind)'|should be a mapping"),
        (_set("format", value=99), "no valid 'format'"),
        (_set("arch", value=3), "'arch'"),
        (_set("keep_strong", value="yes"), "'keep_strong'"),
        (_set("before", value={"params": -1}), r"no valid 'before\.params"),
        (_set("groups", value=[]), "no valid 'groups'"),
        (_set("groups", "0", value=7), r"no valid 'groups\.0"),
        (_set("groups", "0", "size", value=True), r"no valid 'groups\.0"),
        (_set("groups", "0", "removed", value=[6, 1]), "outside 0 to 5"),
        (_set("groups", "0", "removed", value=[-1, 1]), r"no valid 'groups\.0\.removed\.0'"),
        (_set("groups", "0", "removed", value=["1", 1]), r"no valid 'groups\.0\.removed\.0'"),
        (_set("groups", "0", "removed", value=[1, 1]), "twice"),
        (_set("groups", "0", "removed", value=None), r"no valid 'groups\.0\.removed'"),
        (_set("groups", "0", "removed", value=[1]), "do not go together"),
        (_set("groups", "0", "size", value=2), "outside 0 to 1"),
        (_set("groups", "0", "reasons", value=[1, 2]), r"no valid 'groups\.0\.reasons"),
        (_set("groups", "0", "costs", value=[float("nan"), 1]), r"no valid 'groups\.0\.costs"),
        (_set("groups", "0", "costs", value=[True, 1]), r"no valid 'groups\.0\.costs"),
    ],
)
def test_a_file_that_is_wrong_is_one_line(change: Callable[[Any], Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(change(json.loads(_plan().to_json()))))
    with pytest.raises(TsdistillError, match=message) as caught:
        PruningPlan.from_json(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_all_nodes_of_a_group_never_leave() -> None:
    data = _plan().to_dict()
    data["groups"]["0"] = {"size": 1, "removed": [0], "reasons": ["dead"], "costs": [0]}
    with pytest.raises(TsdistillError, match="lose all its nodes"):
        PruningPlan.from_dict(data)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_is_not_json_is_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(content)
    with pytest.raises(TsdistillError):
        PruningPlan.from_json(path)


def test_missing_and_unwritable_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(TsdistillError, match="cannot be read"):
        PruningPlan.from_json(tmp_path / "nothing.json")
    with pytest.raises(TsdistillError, match="cannot be written"):
        _plan().to_json(tmp_path / "no" / "folder.json")


def test_a_plan_is_checked_against_the_network() -> None:
    example = torch.zeros(1, 4)
    _plan().check(trace(mlp(4, 6, 2), example))
    with pytest.raises(TsdistillError, match=r"group '0' .*6 .*7"):
        _plan().check(trace(mlp(4, 7, 2), example))
    with pytest.raises(TsdistillError, match="timm:x"):
        _plan().check(trace(mlp(4, 2), example))
