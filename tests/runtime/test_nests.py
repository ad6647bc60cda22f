"""Inputs of every form a forward can take: one walk, and batches that are served as they are given."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given as example_of
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import tsdistill as tsd
from tsdistill.data.batches import split_batch
from tsdistill.runtime.nests import (
    arguments_of,
    as_tensors,
    count,
    cut,
    holds_tensors,
    keyword_arguments,
    leaves,
    mapped,
    moved,
    repeated,
    shapes,
    tensors,
)
from tsdistill.torch_private import pytree


@dataclasses.dataclass(frozen=True)
class Record:
    x: Tensor
    z: Tensor
    scale: float = 1.0


class Graph:
    """What the toolkit asks of a batch of graphs, as torch_geometric has it."""

    def __init__(self, x: Tensor, z: Tensor) -> None:
        self.x, self.z = x, z

    @property
    def num_graphs(self) -> int:
        return len(self.x)

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    def apply(self, change: Any) -> Graph:
        for name, value in vars(self).items():
            setattr(self, name, change(value))
        return self

    def to_data_list(self) -> list[Graph]:
        return [Graph(self.x[i : i + 1], self.z[i : i + 1]) for i in range(len(self.x))]

    @classmethod
    def from_data_list(cls, graphs: list[Graph]) -> Graph:
        return cls(torch.cat([g.x for g in graphs]), torch.cat([g.z for g in graphs]))


class Two(nn.Module):
    """Two inputs that are added; how they come, a subclass says."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c = nn.Linear(6, 12), nn.Linear(4, 12), nn.Linear(12, 3)

    def added(self, x: Tensor, z: Tensor) -> Tensor:
        return self.c(torch.relu(self.a(x) + self.b(z)))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.added(x, z)


class OfObject(Two):
    def forward(self, inputs: Any) -> Tensor:  # type: ignore[override]
        return self.added(inputs.x, inputs.z)


class OfMaps(Two):
    def forward(self, maps: list[Tensor]) -> Tensor:  # type: ignore[override]
        return self.added(*maps)


class OfDict(Two):
    def forward(self, inputs: dict[str, list[Tensor]]) -> Tensor:  # type: ignore[override]
        return self.added(*inputs["maps"])


def _pair(n: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    return torch.randn(n, 6, generator=generator), torch.randn(n, 4, generator=generator)


FORMS = {
    "positional": (Two, _pair),
    "positional, labelled": (Two, lambda n: (_pair(n), torch.arange(n) % 3)),
    "positional, labels behind": (Two, lambda n: (*_pair(n), torch.arange(n) % 3)),
    "keywords": (Two, lambda n: dict(zip("xz", _pair(n), strict=True))),
    "a data class": (OfObject, lambda n: Record(*_pair(n))),
    "a data class, labelled": (OfObject, lambda n: (Record(*_pair(n)), torch.arange(n) % 3)),
    "graphs": (OfObject, lambda n: Graph(*_pair(n))),
    "maps": (OfMaps, lambda n: ([*_pair(n)],)),
    "maps, labelled": (OfMaps, lambda n: ([*_pair(n)], torch.arange(n) % 3)),
    "maps by keyword": (OfMaps, lambda n: {"maps": [*_pair(n)]}),
    "a dict of lists": (OfDict, lambda n: ({"maps": [*_pair(n)]},)),
}


@pytest.mark.parametrize("form", FORMS)
def test_batches_of_every_form_are_analysed_pruned_and_compared(form):
    make, batch = FORMS[form]
    model, data = make().eval(), [batch(8), batch(7), batch(9)]
    result = tsd.prune_result(model, data=data, budget={"params": 0.7})
    assert not result.put_back
    assert result.after["params"] <= 0.7 * result.before["params"]
    assert result.report is not None
    assert result.report.samples == 24
    assert len(tsd.compare([model, result.model], data=data).macs) == 2


@pytest.mark.parametrize("form", ["positional", "a data class", "graphs", "maps"])
def test_batches_of_every_form_are_distilled(form):
    make, batch = FORMS[form]
    teacher, student = make().eval(), make()
    nn.init.normal_(student.c.weight)
    before = student.c.weight.detach().clone()
    done = tsd.distill(student, teacher, data=[batch(8), batch(8)], options={"epochs": 1, "loss": "mse"})
    trained = getattr(done, "model", None) or getattr(done, "student", None) or student
    assert not torch.equal(trained.c.weight, before)


@pytest.mark.parametrize("form", FORMS)
def test_cutting_counting_and_repeating_agree(form):
    make, batch = FORMS[form]
    x, _ = split_batch(batch(5), arguments_of(make()))
    assert count(x) == 5
    part = cut(x, 1, 3)
    assert count(part) == 2
    for whole, some in zip(tensors(x), tensors(part), strict=True):
        assert torch.equal(whole[1:3], some)
    assert count(repeated(cut(x, 0, 1), 4)) == 4
    assert [t.dtype for t in tensors(mapped(x, Tensor.double))] == [torch.float64] * 2
    assert [t.dtype for t in tensors(x)] == [torch.float32] * 2
    assert "(5, 6)" in shapes(x)


Named = collections.namedtuple("Named", ["x", "z"])


class Hidden(collections.UserDict):
    """A mapping that is no dict, as the tokenizers of transformers return one."""


@st.composite
def nests(draw):
    """A nest and the numbers of its leaves in order."""
    counter = itertools.count()
    leaf = st.builds(lambda array: array(next(counter)), st.sampled_from([torch.tensor, np.array]))

    def containers(inner):
        pair = st.tuples(inner, inner)
        return st.one_of(
            st.lists(inner, max_size=3),
            pair,
            pair.map(lambda items: Named(*items)),
            pair.map(lambda items: Hidden(x=items[0], z=items[1])),
            st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
            pair.map(lambda items: Record(*items)),
        )

    return draw(st.recursive(leaf, containers, max_leaves=8))


@settings(max_examples=50, deadline=None)
@example_of(nests())
def test_every_walk_meets_the_same_leaves_in_one_order(nest):
    found = [leaf for leaf in leaves(nest) if not isinstance(leaf, float)]
    numbers = [int(leaf) for leaf in found]
    assert [int(t) for t in tensors(nest)] == [int(leaf) for leaf in found if isinstance(leaf, Tensor)]
    assert holds_tensors(nest) == bool(found)
    converted = as_tensors(nest)
    assert [int(t) for t in tensors(converted)] == numbers
    assert [int(t) for t in tensors(moved(converted, torch.device("cpu"), torch.float64))] == numbers
    assert [int(t) for t in tensors(mapped(converted, lambda t: t + 1))] == [n + 1 for n in numbers]


def test_moving_copies_what_a_model_may_write_to():
    graph, maps = Graph(*_pair(2)), [*_pair(2)]
    for given in (graph, maps):
        again = moved(given, torch.device("cpu"))
        assert again is not given
        assert all(one is other for one, other in zip(tensors(given), tensors(again), strict=True))


def test_images_in_a_sequence_stay_samples():
    images = [torch.rand(3, 8, 9), torch.rand(3, 7, 5)]
    targets = [{"boxes": torch.rand(1, 4)}, {"boxes": torch.rand(2, 4)}]
    for given in (images, tuple(images)):
        x, y = split_batch((given, targets))
        assert isinstance(x, list)
        assert y == targets
    x, y = split_batch((images, torch.tensor([0, 1])))
    assert isinstance(x, list)


def test_what_does_not_share_a_batch_dimension_is_not_cut():
    x = {"nodes": torch.rand(7, 3), "edges": torch.zeros(2, 15, dtype=torch.long)}
    assert cut(x, 0, 1) is x


def test_outputs_in_a_data_class_are_seen():
    class Out(Two):
        def forward(self, x: Tensor, z: Tensor) -> Record:  # type: ignore[override]
            h = self.a(x)
            return Record(h, self.added(x, z))

    graph = tsd.trace(Out(), _pair(1))
    assert not graph.groups
    assert {item.cause for item in graph.frozen} == {"reaches the model's output"}


@pytest.mark.parametrize("enforce_sorted", [True, False])
def test_a_packed_sequence_moves_without_its_batch_sizes(enforce_sorted: bool) -> None:
    packed = pack_sequence([torch.ones(3, 2), torch.ones(2, 2)], enforce_sorted)
    nest = moved({"x": [packed], "y": torch.ones(2)}, torch.device("meta"), torch.float64)
    again = nest["x"][0]
    assert isinstance(again, PackedSequence)
    assert again is not packed
    assert again.data.device.type == nest["y"].device.type == "meta"
    assert again.data.dtype == torch.float64
    assert torch.equal(again.batch_sizes, packed.batch_sizes)
    for order in (again.sorted_indices, again.unsorted_indices):
        assert order is None if enforce_sorted else order.device.type == "meta"


class Arguments(nn.Module):
    def forward(self, x: Any, ids: Any, flag: bool = True, *rest: Any) -> Any:
        return x


def test_positional_arguments_become_keyword_arguments_where_all_can() -> None:
    x = torch.ones(2)
    assert list(keyword_arguments(Arguments(), (x, x))) == ["x", "ids"]
    assert keyword_arguments(Arguments(), x) is x
    for arguments in ((x, x, False, x), pack_sequence([x])):
        assert keyword_arguments(Arguments(), arguments) is arguments


class Cache:
    """A container that its library registers with PyTorch."""

    def __init__(self, *parts: Tensor) -> None:
        self.parts = parts


pytree.register_pytree_node(Cache, lambda cache: (list(cache.parts), None), lambda parts, _: Cache(*parts))


def test_tensors_in_registered_containers_count() -> None:
    a, b, c = (torch.full((1,), float(value)) for value in range(3))
    for nest in (Cache(a, b), [Cache(a, b)], {"cache": Cache(a, b), "x": 3}):
        assert all(one is other for one, other in zip(tensors(nest), (a, b), strict=True))
    assert [t.item() for t in tensors((a, "b", {"c": [Cache(b)]}, (c,)))] == [0.0, 1.0, 2.0]
