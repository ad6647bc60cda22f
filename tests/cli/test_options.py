import click
import pytest

from tsdistill.cli.options import Figures, Size, check_device, observing, reading
from tsdistill.errors import TsdistillError

GIVEN = {
    "data": None,
    "samples": None,
    "batch_size": 8,
    "seed": 3,
    "metric": None,
    "augment": None,
}


@pytest.mark.parametrize(
    ("text", "size"), [("3x224x192", (3, 224, 192)), ("3,16,16", (3, 16, 16)), ("224", (224,))]
)
def test_size(text: str, size: tuple[int, ...]) -> None:
    assert Size().convert(text, None, None) == size


@pytest.mark.parametrize("text", ["", "3x", "3x0x4", "-3", "3.5", "3 4"])
def test_size_refuses(text: str) -> None:
    with pytest.raises(click.BadParameter, match="not a size"):
        Size().convert(text, None, None)


def test_figures() -> None:
    assert Figures().convert("0.5, 0.25,1", None, None) == (0.5, 0.25, 1.0)
    with pytest.raises(click.BadParameter, match="not a list of figures"):
        Figures().convert("0.5,,1", None, None)


def test_samples_are_bounded_for_real_data_only() -> None:
    assert reading(GIVEN)["samples"] is None
    assert reading({**GIVEN, "data": "synthetic:pink"})["samples"] is None
    assert reading({**GIVEN, "data": "photos"})["samples"] == 2048
    assert reading({**GIVEN, "data": "photos", "samples": 9})["samples"] == 9


def test_observing_leaves_out_what_was_not_given() -> None:
    assert observing(GIVEN) == {"samples": None, "batch_size": 8, "seed": 3}
    assert observing({**GIVEN, "metric": "cosine"})["metric"] == "cosine"


@pytest.mark.parametrize("name", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there(name: str) -> None:
    with pytest.raises(TsdistillError, match=f"--device {name}: .*--device cpu") as caught:
        check_device(name)
    assert "\n" not in str(caught.value)
