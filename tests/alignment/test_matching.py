from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.alignment.small import mlp
from tsdistill.alignment.matching import match_groups
from tsdistill.alignment.sites import find_sites
from tsdistill.errors import TsdistillError
from tsdistill.tracing import trace


def _match(student: nn.Module, teacher: nn.Module) -> tuple[dict[str, str], tuple[str, ...]]:
    x = torch.randn(1, 4)
    mine, theirs = trace(student, x), trace(teacher, x)
    return match_groups(mine, theirs, find_sites(student, mine), find_sites(teacher, theirs))


def test_the_same_architecture_matches_by_name_at_any_width() -> None:
    assert _match(mlp(4, 9, 8, 2), mlp(4, 3, 5, 2)) == ({"0": "0", "2": "2"}, ())


def test_other_names_match_in_depth_order_with_a_note() -> None:
    named = nn.Sequential()
    for name, layer in zip(("in", "act", "mid", "act2", "out"), mlp(4, 5, 6, 2), strict=True):
        named.add_module(name, layer)
    pairs, notes = _match(mlp(4, 9, 8, 2), named)
    assert pairs == {"0": "in", "2": "mid"}
    assert "depth order" in notes[0]


def test_a_group_without_partner_is_named() -> None:
    pairs, notes = _match(mlp(4, 9, 8, 7, 2), mlp(4, 3, 5, 2))
    assert pairs == {"0": "0", "2": "2"}
    assert notes == ("groups without a partner in the teacher: 4",)


def test_architectures_that_do_not_fit_are_one_line() -> None:
    named = nn.Sequential()
    named.add_module("other", mlp(4, 5, 2))
    with pytest.raises(TsdistillError, match="do not fit the student's: 1 and 2 groups"):
        _match(mlp(4, 9, 8, 2), named)
