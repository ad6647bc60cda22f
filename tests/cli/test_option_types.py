import click
import pytest

from tsdistill.cli.field_options import FieldType
from tsdistill.cli.option_types import FIGURES, PAIR, POSITIONS, SIZE
from tsdistill.options import AnalysisOptions
from tsdistill.options.option_fields import known_fields


@pytest.mark.parametrize(
    ("text", "size"), [("3x224x192", (3, 224, 192)), ("3,16,16", (3, 16, 16)), ("224", (224,))]
)
def test_size(text: str, size: tuple[int, ...]) -> None:
    assert SIZE.convert(text, None, None) == size


@pytest.mark.parametrize("text", ["", "3x", "3x0x4", "-3", "3.5", "3 4", "3²", "9" * 5000])
def test_size_refuses(text: str) -> None:
    with pytest.raises(click.BadParameter, match="not a size"):
        SIZE.convert(text, None, None)


def test_figures() -> None:
    assert FIGURES.convert("0.5, 0.25,1", None, None) == (0.5, 0.25, 1.0)
    with pytest.raises(click.BadParameter, match="not a list of figures"):
        FIGURES.convert("0.5,,1", None, None)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e400", "x", ""])
def test_numbers_are_finite(text: str) -> None:
    for kind in (FieldType(known_fields(AnalysisOptions)["weak"]), FIGURES):
        with pytest.raises(click.BadParameter, match="not"):
            kind.convert(text, None, None)
    assert FieldType(known_fields(AnalysisOptions)["weak"]).convert("0.25", None, None) == 0.25


@pytest.mark.parametrize(("text", "pair"), [("a=b", ("a", "b")), (" l.0 = l.1 ", ("l.0", "l.1"))])
def test_pair(text: str, pair: tuple[str, str]) -> None:
    assert PAIR.convert(text, None, None) == pair


@pytest.mark.parametrize("text", ["", "a", "=", "a=", "=b", "a=b=c"])
def test_pair_refuses(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a pair such as"):
        PAIR.convert(text, None, None)


@pytest.mark.parametrize(("text", "positions"), [("auto", "auto"), ("all", "all"), ("64", 64)])
def test_positions(text: str, positions: str | int) -> None:
    assert POSITIONS.convert(text, None, None) == positions


@pytest.mark.parametrize("text", ["", "0", "-3", "some", "1.5"])
def test_positions_refuses(text: str) -> None:
    with pytest.raises(click.BadParameter, match="none of auto, all and a number"):
        POSITIONS.convert(text, None, None)
