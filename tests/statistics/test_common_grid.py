from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d

from tsdistill.statistics.common_grid import Shape, common_grid, grid, nodes


@pytest.mark.parametrize(
    ("mine", "theirs", "size"),
    [
        ((14, 14), (14, 14), (14, 14)),
        ((56, 28), (14, 56), (14, 28)),
        ((197,), (197,), (197,)),
        ((197,), (14, 14), (14, 14)),
        ((7, 7), (198,), (7, 7)),
        ((197,), (50,), (7, 7)),
        ((77,), (12,), (12,)),
        ((), (), ()),
        ((), (7, 7), None),
        ((13,), (7, 7), None),
        ((8, 7, 7), (4, 7, 7), (4, 7, 7)),
        ((8, 7, 7), (7, 7), None),
    ],
)
def test_positions_meet_at_the_coarser_resolution(mine: Shape, theirs: Shape, size: Shape | None) -> None:
    assert common_grid(mine, theirs).size == size
    a = common_grid(mine, theirs).resample(torch.randn(2, 3, *mine), 2)
    b = common_grid(mine, theirs).resample(torch.randn(2, 4, *theirs), 2)
    assert a.shape[2] == b.shape[2]
    assert a.shape[:2] == (2, 3)


def test_tokens_of_a_square_image_are_its_map() -> None:
    assert grid(197) == (1, 14)
    assert grid(198) == (2, 14)
    assert grid(196) == (0, 14)
    assert grid(201) == (5, 14)
    assert grid(80) is None
    assert grid(10) is None
    maps = torch.randn(2, 3, 4, 4)
    tokens = torch.cat([torch.randn(2, 3, 1), maps.flatten(2)], 2)
    meeting = common_grid((17,), (2, 2))
    torch.testing.assert_close(meeting.resample(tokens, 2), avg_pool2d(maps, 2).flatten(2))
    assert "2x2" in meeting.words


def test_windows_are_averaged_over_their_sample() -> None:
    windows = torch.randn(6, 3, 5)
    found = common_grid((5,), (7, 7), windows=True).resample(windows, 2)
    torch.testing.assert_close(found[:, :, 0], windows.reshape(2, 3, 3, 5).mean((1, 3)))


def test_half_precision_maps_are_pooled_in_single() -> None:
    maps = torch.randn(2, 3, 4, 4).half()
    found = common_grid((4, 4), (2, 2)).resample(maps, 2)
    assert found.dtype == torch.float32


def test_nodes_of_several_channels_are_positions_or_their_average() -> None:
    block = torch.randn(2, 6, 4)
    coords = np.array([[0, 3], [1, 4], [2, 5]])
    further = nodes(block, coords, average=False)
    assert further.shape == (2, 3, 8)
    assert torch.equal(further[:, 1], torch.cat([block[:, 1], block[:, 4]], 1))
    torch.testing.assert_close(nodes(block, coords, average=True), (block[:, :3] + block[:, 3:]) / 2)
