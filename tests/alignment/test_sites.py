from __future__ import annotations

import numpy as np
import torch
from torch import nn

from tests.alignment.small import residual
from tsdistill.alignment.sites import Positions, Site, find_sites, positions_wanted, rows, spread
from tsdistill.tracing import Group, NodeGraph, Reader, trace

ALL = Positions(0, None)


def test_rows_of_maps_tokens_and_vectors_are_samples_of_channels() -> None:
    x = torch.randn(2, 3, 4, 5)
    taken, share = rows(x, Site("c", "c", 1, 3), ALL)
    assert share == 1
    assert torch.equal(taken, x.permute(0, 2, 3, 1).reshape(-1, 3))
    tokens = torch.randn(2, 7, 3)
    assert torch.equal(rows(tokens, Site("t", "t", -1, 3), ALL)[0], tokens.reshape(-1, 3))
    vectors = torch.randn(6, 3)
    assert torch.equal(rows(vectors, Site("v", "v", -1, 3), ALL)[0], vectors)
    half = rows(vectors.half(), Site("v", "v", -1, 3), ALL)[0]
    assert half.dtype == torch.float32


def test_channels_last_memory_makes_no_difference() -> None:
    x = torch.randn(2, 3, 4, 5)
    site = Site("c", "c", 1, 3)
    assert torch.equal(rows(x, site, ALL)[0], rows(x.to(memory_format=torch.channels_last), site, ALL)[0])


def test_a_subset_of_positions_is_seeded_and_says_what_it_stands_for() -> None:
    x = torch.arange(36.0).reshape(1, 1, 6, 6)
    site = Site("c", "c", 1, 1)
    taken, share = rows(x, site, Positions(3, 9))
    assert taken.shape == (9, 1)
    assert share == 4
    assert len(set(taken.flatten().tolist())) == 9
    assert torch.equal(taken, rows(x, site, Positions(3, 9))[0])
    positions = Positions(3, 9)
    first = rows(x, site, positions)[0]
    positions.next_batch()
    assert not torch.equal(first, rows(x, site, positions)[0])


def test_positions_bound_the_work_and_give_enough_rows() -> None:
    assert positions_wanted(32, None) == 4096
    assert positions_wanted(2048, 100_000) == 16
    assert positions_wanted(1024, 64) == 256


def test_spread_turns_the_channels_of_a_node_into_samples() -> None:
    samples = torch.arange(12.0).reshape(2, 6)
    layout = np.array([[0, 1, 2], [3, 4, 5]])
    expected = torch.tensor([[0, 3], [1, 4], [2, 5], [6, 9], [7, 10], [8, 11]], dtype=torch.float32)
    assert torch.equal(spread(samples, layout), expected)


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
