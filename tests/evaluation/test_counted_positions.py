from __future__ import annotations

import torch

from tsdistill.evaluation.counted_positions import aligned_labels, counted, labels_for
from tsdistill.evaluation.output_layout import layout_of

TOKENS = torch.zeros(2, 3, 7)
LAYOUT = layout_of(TOKENS)
MASK = torch.tensor([[1, 1, 0], [1, 0, 0]])


def test_padding_does_not_count() -> None:
    x = {"input_ids": MASK, "attention_mask": MASK}
    found = counted(LAYOUT, TOKENS, x)
    assert found is not None
    assert torch.equal(found, MASK.bool())
    assert counted(layout_of(torch.zeros(2, 3)), torch.zeros(2, 3), x) is None
    assert counted(LAYOUT, TOKENS, MASK) is None


def test_of_a_decoder_its_own_mask_counts() -> None:
    x = {"input_ids": MASK, "attention_mask": MASK, "decoder_input_ids": MASK}
    assert counted(LAYOUT, TOKENS, x) is None
    found = counted(LAYOUT, TOKENS, {**x, "decoder_attention_mask": 1 - MASK})
    assert found is not None
    assert torch.equal(found, MASK == 0)


def test_padding_masks_in_the_names_of_pytorch() -> None:
    for x in ({"key_padding_mask": MASK == 0}, {"x": TOKENS, "src_key_padding_mask": MASK == 0}):
        found = counted(LAYOUT, TOKENS, x)
        assert found is not None
        assert torch.equal(found, MASK.bool())
    both = {"src_key_padding_mask": MASK == 0, "tgt_key_padding_mask": MASK == 1}
    found = counted(LAYOUT, TOKENS, both)
    assert found is not None
    assert torch.equal(found, MASK == 0)


def test_ignored_labels_do_not_count() -> None:
    y = torch.tensor([[1, -100, 2], [255, 0, 0]])
    found = counted(LAYOUT, TOKENS, {"attention_mask": MASK}, y)
    assert found is not None
    assert found.tolist() == [[True, False, False], [True, False, False]]
    other = counted(LAYOUT, TOKENS, None, y, ignore_index=255)
    assert other is not None
    assert not other[1, 0]
    assert other.sum() == 5
    maps = torch.zeros(2, 7, 3, 4)
    whole = torch.zeros(2, 1, 3, 4, dtype=torch.long)
    whole[1, 0, 2, 3] = -100
    found = counted(layout_of(maps), maps, None, whole)
    assert found is not None
    assert found.sum() == 23
    assert not found[1, 2, 3]
    assert counted(layout_of(maps), maps, None, torch.zeros(2, dtype=torch.long)) is None


def test_labels_are_in_the_order_of_positions() -> None:
    maps = torch.rand(2, 7, 3, 4)
    found = labels_for(layout_of(maps), maps, maps)
    assert found is not None
    assert torch.equal(found, maps.movedim(1, -1))
    assert labels_for(LAYOUT, TOKENS, {"output": torch.zeros(2, 3).long()}) is not None
    assert labels_for(LAYOUT, TOKENS, {"other": torch.zeros(2, 3).long()}) is None
    assert labels_for(LAYOUT, TOKENS, torch.zeros(2).long()) is None


def test_labels_that_are_the_inputs_are_those_of_the_next_token() -> None:
    tokens = torch.tensor([[5, 6, 7], [8, 9, 0]])
    y = torch.tensor([[5, 6, 7], [8, 9, -100]])
    expected = torch.tensor([[6, 7, -100], [9, -100, -100]])
    assert torch.equal(aligned_labels({"input_ids": tokens}, y), expected)
    hidden = torch.tensor([[-100, 3, -100], [-100, -100, -100]])
    assert aligned_labels({"input_ids": tokens}, hidden) is hidden
    assert aligned_labels(tokens, y) is y
    assert aligned_labels({"input_ids": tokens, "decoder_input_ids": tokens}, y) is y
