from __future__ import annotations

import pytest
import torch

from tsdistill.errors import TsdistillError
from tsdistill.evaluation.output_layout import Layout, class_output, layout_of, layouts, paired
from tsdistill.options.output_options import parse_stated

IMAGES, TOKENS = torch.zeros(2, 7, 3, 4), torch.zeros(2, 5, 7)


@pytest.mark.parametrize(
    ("shape", "rows", "kind"),
    [
        ((4, 7), (4, 7), "classes"),
        ((4, 7, 3, 2), (4, 3, 2, 7), "classes"),
        ((2, 5, 7), (2, 5, 7), "classes"),
        ((2, 7, 1, 2, 3), (2, 1, 2, 3, 7), "classes"),
        ((4,), (4, 1), "values"),
        ((4, 1), (4, 1), "values"),
    ],
)
def test_where_classes_lie(shape, rows, kind: str) -> None:
    layout = layout_of(torch.zeros(shape))
    assert tuple(layout.rows(torch.zeros(shape)).shape) == rows
    assert layout.positions(torch.zeros(shape)) == rows[:-1]
    assert layout.kind == kind


def kinds(outputs, **more) -> dict[str, str]:
    return {name: layout.kind for name, layout in layouts(outputs, **more).items()}


def test_of_several_outputs_those_hold_classes_whose_name_says_so() -> None:
    boxes, scores = torch.zeros(2, 9, 4), torch.zeros(2, 9, 5)
    assert kinds({"pred_boxes": boxes, "pred_logits": scores}) == {
        "pred_boxes": "values",
        "pred_logits": "classes",
    }
    assert kinds({"0": boxes, "1": scores}) == {"0": "values", "1": "values"}
    assert kinds({"output": scores}) == {"output": "classes"}
    assert kinds({"last_hidden_state": scores}) == {"last_hidden_state": "values"}
    alone = layouts({"boxes": boxes, "scores": scores[..., 0]})["scores"]
    assert alone == Layout("scores", "values", None)


def test_labels_say_what_an_output_holds() -> None:
    boxes, scores = torch.zeros(2, 9, 4), torch.zeros(2, 9, 5)
    numbers = torch.full((2, 9), 4)
    numbers[0, 3] = -100
    assert kinds({"0": boxes, "1": scores}, target=numbers) == {"0": "values", "1": "classes"}
    assert kinds({"output": torch.zeros(2, 3)}, target=torch.zeros(2, 3)) == {"output": "values"}


def test_what_the_user_says_comes_first() -> None:
    stated = {"0": "classes:1", "1": "unused"}
    found = layouts({"0": TOKENS, "1": IMAGES}, stated)
    assert found == {"0": Layout("0", "classes", 1), "1": Layout("1", "unused", 1)}
    assert layouts({"0": TOKENS}, {"0": "classes:-2"})["0"].axis == 1
    assert (
        class_output({"0": IMAGES, "1": TOKENS}, layouts({"0": IMAGES, "1": TOKENS}, {"1": "classes"})) == "1"
    )
    for wrong, words in (({"2": "classes"}, "no output '2'"), ({"0": "classes:3"}, "dimensions 0 to 2")):
        with pytest.raises(TsdistillError, match=words):
            layouts({"0": TOKENS}, wrong)


def test_what_is_said_is_text_or_a_table() -> None:
    assert parse_stated("a=classes:1, b=values") == {"a": "classes:1", "b": "values"}
    assert parse_stated({"a": "unused"}) == {"a": "unused"}
    for wrong in ("a", "a=labels", "=classes", "a=classes:x", 3):
        with pytest.raises(TsdistillError):
            parse_stated(wrong)


def test_outputs_of_two_models_are_paired() -> None:
    pair = {"boxes": TOKENS, "logits": TOKENS}
    assert paired(pair, {"logits": TOKENS, "boxes": TOKENS}) == {"boxes": "boxes", "logits": "logits"}
    assert paired(pair, {"0": TOKENS, "1": TOKENS}) == {"boxes": "0", "logits": "1"}
    assert paired({"output": TOKENS}, {"aux": TOKENS, "logits": TOKENS}) == {"output": "logits"}
    assert paired(pair, {"output": TOKENS}) == {"logits": "output"}
