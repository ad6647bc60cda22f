from __future__ import annotations

import numpy as np
import pytest
import torch

from tsdistill.statistics.sample_blocks import (
    PositionSampler,
    channels_first,
    flat,
    spread,
    token_mask,
    widen,
)


def test_maps_tokens_and_vectors_become_blocks() -> None:
    x = torch.randn(2, 3, 4, 5)
    assert torch.equal(flat(channels_first(x, 1)), x.reshape(2, 3, 20))
    assert torch.equal(flat(channels_first(x.permute(0, 2, 3, 1), -1)), x.reshape(2, 3, 20))
    tokens = torch.randn(2, 7, 3)
    assert torch.equal(flat(channels_first(tokens, -1)), tokens.transpose(1, 2))
    vectors = torch.randn(6, 3)
    assert torch.equal(flat(channels_first(vectors, -1)), vectors[:, :, None])
    assert flat(channels_first(torch.randn(3), -1)).shape == (1, 3, 1)


def test_half_precision_is_widened_and_double_kept() -> None:
    assert widen(torch.ones(2).half()).dtype == torch.float32
    assert widen(torch.ones(2).bfloat16()).dtype == torch.float32
    assert widen(torch.ones(2).double()).dtype == torch.float64


def test_every_sample_has_positions_of_its_own_one_a_stretch() -> None:
    block = torch.arange(100.0).expand(8, 2, 100)
    taken = PositionSampler(3, 10).take(block, 10)
    assert taken.shape == (8, 2, 10)
    assert torch.equal(taken[:, 0], taken[:, 1])
    assert torch.equal(taken[:, 0] // 10, torch.arange(10.0).expand(8, 10))
    assert len({tuple(row) for row in taken[:, 0].tolist()}) == 8


def test_positions_depend_on_seed_and_batch_only() -> None:
    block = torch.rand(4, 1, 50)

    def take(seed: int, batch: int) -> torch.Tensor:
        positions = PositionSampler(seed, 5)
        positions.begin(batch)
        return positions.take(block, 5)

    assert torch.equal(take(0, 2), take(0, 2))
    assert not torch.equal(take(0, 2), take(0, 3))
    assert not torch.equal(take(0, 2), take(1, 2))


def test_every_position_is_as_likely() -> None:
    positions = PositionSampler(0, 3)
    counts = torch.zeros(7)
    for batch in range(300):
        positions.begin(batch)
        taken = positions.take(torch.arange(7.0).expand(20, 1, 7), 3)
        counts += torch.bincount(taken.flatten().long(), minlength=7)
    assert (counts / counts.sum() - 1 / 7).abs().max() < 0.01


@pytest.mark.parametrize(
    ("samples", "width", "total", "wanted"),
    [(2048, 64, 3136, 8), (None, 64, 3136, 32), (512, 2048, 49, 49), (10, 64, 196, 196), (10**6, 64, 49, 1)],
)
def test_pairs_get_the_rows_that_their_standard_error_needs(
    samples: int | None, width: int, total: int, wanted: int
) -> None:
    assert PositionSampler(0, "auto", samples).for_pairs(width, total) == wanted
    assert PositionSampler(0, None, samples).for_pairs(width, total) == total
    assert PositionSampler(0, 5, samples).for_pairs(width, total) == 5


def test_covariances_get_enough_rows_and_no_more() -> None:
    assert PositionSampler(0, "auto", None).for_covariances(32, 10**6) == 32
    assert PositionSampler(0, "auto", 100_000).for_covariances(2048, 10**6) == 16
    assert PositionSampler(0, "auto", 64).for_covariances(1024, 10**6) == 256
    assert PositionSampler(0, "auto", 64).for_covariances(1024, 49) == 49
    assert PositionSampler(0, None, 64).for_covariances(32, 10**6) == 10**6


def test_a_subset_gives_correlations_within_the_standard_error() -> None:
    """8 of 256 positions of 2,048 samples: 16,384 rows; (1 − ρ²)/√rows is at most 0.0078."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2048, 12, 16, 16, generator=generator)
    smooth = torch.nn.functional.avg_pool2d(noise, 3, 1, 1) + 0.2 * noise.mean(1, keepdim=True)
    maps = torch.relu(smooth).flatten(2)
    positions = PositionSampler(0, "auto", 2048)

    def correlation(block: torch.Tensor) -> np.ndarray:
        return np.corrcoef(block.transpose(0, 1).flatten(1).double().numpy())

    error = correlation(positions.take(maps, positions.for_pairs(12, 256))) - correlation(maps)
    off = error[~np.eye(12, dtype=bool)]
    assert off.std() < 0.01
    assert np.abs(off).max() < 0.03


def test_spread_turns_the_channels_of_a_node_into_positions() -> None:
    samples = torch.arange(12.0).reshape(2, 6)
    layout = np.array([[0, 1, 2], [3, 4, 5]])
    expected = torch.tensor([[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]], dtype=torch.float32)
    assert torch.equal(spread(samples[:, :, None], layout), expected)
    assert spread(samples[:, :, None], np.arange(6)[:, None]).data_ptr() == samples.data_ptr()


def test_padding_is_not_looked_at() -> None:
    mask = torch.tensor([[1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]])
    block = torch.arange(6.0).expand(3, 1, 6)
    positions = PositionSampler(0, None)
    positions.begin(0, token_mask({"input_ids": mask, "attention_mask": mask}))
    for wanted in (3, 6, 9):
        taken = positions.take(block, wanted)[:, 0]
        assert taken.shape == (3, wanted)
        assert taken.amax(1).tolist() <= [2, 0, 5]
    assert set(positions.take(block, 6)[0, 0].tolist()) == {0, 1, 2}
    other = torch.zeros(3, 1, 7)
    assert positions.take(other, 7) is other


def test_a_mask_is_one_of_padding_only() -> None:
    ones, half = torch.ones(2, 3), torch.tensor([[1, 1, 0], [1, 1, 1]])
    assert token_mask(ones) is token_mask({"attention_mask": ones}) is None
    assert token_mask({"attention_mask": half, "decoder_input_ids": half}) is None
    assert token_mask({"attention_mask": half}).tolist() == [[True, True, False], [True, True, True]]
