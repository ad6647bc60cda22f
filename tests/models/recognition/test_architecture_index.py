import random

import pytest
import timm
import torchvision

from tsdistill.models.files.stored_weights import shapes_of, state
from tsdistill.models.recognition.architecture_index import Index, decode, encode, make_entry, shipped
from tsdistill.models.sources import catalog

SHAPES = {"conv.weight": (8, 3, 3, 3), "fc.weight": (9973, 8), "fc.bias": (9973,)}
ENTRY = make_entry("timm:x", 1000, 9973, SHAPES)


def with_classes(count):
    return {**SHAPES, "fc.weight": (count, 8), "fc.bias": (count,)}


def test_any_number_of_classes_matches():
    index = Index("1", "1", (ENTRY,))
    assert index.matches(with_classes(10)) == [(ENTRY, 10)]
    assert index.matches({**with_classes(10), "fc.bias": (11,)}) == []
    assert index.matches({**with_classes(10), "conv.weight": (9, 3, 3, 3)}) == []
    assert index.matches({**with_classes(10), "more": (1,)}) == []


def test_rows_per_class():
    shapes = {"head.weight": (9973 * 6, 4)}
    entry = make_entry("torchvision:x", 91, 9973, shapes)
    assert entry.classes_in({"head.weight": (12, 4)}) == 2
    assert entry.classes_in({"head.weight": (13, 4)}) is None


def test_encoding_keeps_everything():
    index = Index("1", "2", (ENTRY, make_entry("timm:y", None, None, SHAPES)))
    assert decode(encode(index)) == index
    assert encode(index) == encode(index)


def test_nearest_has_most_in_common():
    other = make_entry("timm:other", 1000, 9973, {f"a.{i}": (i, 2) for i in range(1, 30)})
    index = Index("1", "1", (other, ENTRY))
    assert index.nearest(with_classes(10), 1)[0][1] == ENTRY
    renamed = {f"renamed.{name}": shape for name, shape in with_classes(10).items()}
    assert index.nearest(renamed, 1)[0][0] == 0
    assert index.nearest(renamed, 1, named=False)[0][1] == ENTRY


def test_shipped_index_covers_what_is_installed():
    index = shipped()
    known = {entry.spec.partition(",")[0] for entry in index.entries}
    wanted = {f"torchvision:{n}" for n in torchvision.models.list_models() if not n.startswith("quantized_")}
    wanted |= {f"timm:{name}" for name in timm.list_models()}
    if (index.timm, index.torchvision) == (timm.__version__, torchvision.__version__):
        assert wanted <= known
    else:
        assert len(wanted & known) > 0.9 * len(wanted)


SAMPLE = random.Random(0).sample(sorted({entry.spec for entry in shipped().entries}), 12)


@pytest.mark.parametrize("spec", SAMPLE)
def test_shipped_index_agrees_with_fresh_builds(spec):
    classifies = next(entry.classes for entry in shipped().entries if entry.spec == spec)
    full = spec if classifies is None else f"{spec},num_classes=7"
    shapes = shapes_of(state(catalog.build_empty(full).model))
    matched = [(entry.spec, classes) for entry, classes in shipped().matches(shapes)]
    assert any(found == spec and (classifies is None or classes == 7) for found, classes in matched)
