from __future__ import annotations

import numpy as np
import torch
from torch import nn

from tests.networks import residual
from tsdistill.statistics.sites import find_sites
from tsdistill.tracing import Group, NodeGraph, Reader, trace


def test_a_flattened_map_keeps_blocks_when_narrow_and_shares_positions_when_wide() -> None:
    def graph_of(channels: int, side: int) -> tuple[nn.Module, NodeGraph]:
        model = nn.Sequential(nn.Linear(channels * side, 2))
        coords = np.arange(channels * side).reshape(channels, side)
        reader = Reader("0", "0.weight", 1, -1, coords)
        return model, NodeGraph((Group("g", channels, (), (), (reader,)),))

    narrow = find_sites(*graph_of(4, 16))
    assert narrow.sites["0"].layout is None
    assert narrow.primary("g").features.shape == (4, 16)
    wide = find_sites(*graph_of(100, 49))
    (site,) = wide.sites.values()
    assert site.layout.shape == (100, 49)
    assert wide.primary("g").features.tolist() == [[k] for k in range(100)]


def test_readers_that_cannot_be_hooked_are_left_out() -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    coords = np.arange(3)[:, None]
    lone = Group("g", 3, (), (), (Reader(None, "0.weight", 1, -1, coords),))
    sites = find_sites(model, NodeGraph((lone,)))
    assert sites.primary("g") is None
    assert not sites.sites


def test_sites_of_a_traced_network() -> None:
    model = residual()
    graph = trace(model, torch.randn(1, 3, 8, 8))
    sites = find_sites(model, graph)
    assert set(sites.sites) == {"first", "second", "head"}
    assert [reading.site for reading in sites.readings["stem"]] == ["first", "head"]
    assert sites.primary("stem").features.shape == (8, 4)
    assert {reading.group for reading in sites.at("second")} == {"first"}
