"""Trial cuts: widths that code takes from one another come apart."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tsdistill.tracing.graph import Group, NodeGraph, Slot
from tsdistill.tracing.validation_cut import validation_cut


def graph(sizes: list[int], slots: list[int]) -> NodeGraph:
    groups = []
    for number, (size, count) in enumerate(zip(sizes, slots, strict=True)):
        coords = np.arange(size)[:, None]
        own = tuple(Slot(f"{number}.{slot}.weight", 0, coords) for slot in range(count))
        groups.append(Group(f"{number}", size, own, (own[0].param,), ()))
    return NodeGraph(tuple(groups))


def test_blocks_of_sixteen_have_more_numbers_than_the_two_odd_ones() -> None:
    trial = validation_cut(graph([16] * 4, [1, 1, 1, 3]))
    assert len({len(nodes) for nodes in trial.values()}) == 4


def test_where_only_whole_steps_can_go_one_stays_that_is() -> None:
    steps = tuple(replace(group, step=8) for group in graph([48, 8, 20], [1, 1, 1]).groups)
    assert {name: len(nodes) for name, nodes in validation_cut(NodeGraph(steps)).items()} == {
        "0": 24,
        "2": 12,
    }


@given(st.sampled_from([16, 24, 32, 48, 64, 96, 192, 384, 768]), st.integers(1, 24), st.integers(0, 24))
def test_a_stream_loses_another_number_than_what_is_as_wide_in_its_blocks(
    size: int, blocks: int, place: int
) -> None:
    slots = [1] * blocks
    slots.insert(min(place, blocks), 3)
    trial = validation_cut(graph([size] * (blocks + 1), slots))
    counts = [len(trial[str(number)]) for number in range(blocks + 1)]
    stream = counts.pop(slots.index(3))
    assert stream not in counts
    for count in (stream, *counts):
        assert 0.3 * size <= count <= 0.7 * size
        assert (size - count) % 2 == 1 or (size == 16 and blocks > 1)
    assert all(len(np.unique(nodes)) == len(nodes) < size for nodes in trial.values())
