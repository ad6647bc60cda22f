import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsdistill.errors import TsdistillError
from tsdistill.printable import LONGEST_MESSAGE, html_text, one_line, printable, shortened

ANYTHING = st.text(st.characters(exclude_categories=()))


@given(ANYTHING)
def test_what_is_shown_is_printable_and_keeps_what_was(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    if text.isprintable():
        assert shown == text


@given(ANYTHING, st.integers(20, 60))
def test_one_line_is_bounded(text: str, most: int) -> None:
    assert len(one_line(text, most)) <= most
    assert len(one_line(20 * text, most)) <= most


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", "a\\x1b[2Jb"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\ud800", "\\ud800"),
        ("a\0", "a\\x00"),
    ],
)
def test_commands_to_a_terminal_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_the_middle_is_left_out() -> None:
    assert shortened("what is wrong" + 100 * "." + "the way out", 40).startswith("what is wrong")
    assert shortened("what is wrong" + 100 * "." + "the way out", 40).endswith("the way out")


@given(ANYTHING)
def test_every_error_is_one_bounded_printable_line(text: str) -> None:
    error = TsdistillError(f"{text}{3000 * 'x'}")
    assert str(error).isprintable()
    assert len(str(error)) <= LONGEST_MESSAGE
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@given(
    st.lists(st.text(alphabet="abc", min_size=1, max_size=15), min_size=1, max_size=80), st.integers(60, 200)
)
def test_words_are_not_cut(words: list[str], most: int) -> None:
    shown = shortened(" ".join(words), most)
    assert len(shown) <= most
    assert {piece for piece in shown.split() if piece != "..."} <= set(words)


@pytest.mark.parametrize("text", ["a\u202eb.html", "<b>&", "\x1b[31m"])
def test_text_of_a_page_has_no_marks_and_nothing_unprintable(text: str) -> None:
    shown = html_text(text)
    assert shown.isprintable()
    assert "<" not in shown
