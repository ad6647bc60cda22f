"""Text of unknown origin as text that is safe to show: one line, printable, bounded."""

from __future__ import annotations

from html import escape

LONGEST_MESSAGE = 1000
"""Characters of a message: about ten lines of a terminal, above the longest that this package writes."""

LONGEST_WORD = 20
"""Characters of a word of English; a longer run without a space is a name or a path, cut anywhere."""

LONGEST_NAME = 120
"""Characters of a name out of a file within a message: room for the deepest module names in use."""


def printable(text: object, most: int | None = None) -> str:
    r"""``text`` with every character that is not printable written as its escape.

    Control characters, ANSI sequences, overrides of the writing direction and lone surrogates become
    ``\x1b``, ``\u202e`` ...; so a terminal shows what there is and carries nothing out.

    Args:
        text: any object, shown as ``str`` does.
        most: characters to keep; what is left out from the middle becomes ``...``. ``None``: all of them.
    """
    shown = str(text)
    if most is not None:
        shown = shortened(shown, most)
    if not shown.isprintable():
        shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in shown)
    return shown if most is None else shortened(shown, most)


def one_line(text: object, most: int = LONGEST_MESSAGE) -> str:
    """``text`` as one printable line of at most ``most`` characters; white space becomes single spaces."""
    shown = shortened(str(text), 8 * most)
    return printable(" ".join(shown.split()), most)


def html_text(text: object) -> str:
    """``text`` for a page: printable, and with the characters that have a meaning in HTML escaped."""
    return escape(printable(text))


def shortened(text: str, most: int) -> str:
    """``text`` without its middle where it is longer than ``most`` characters; words of up to `LONGEST_WORD`
    characters are kept or left out as a whole."""
    if len(text) <= most:
        return text
    length = (most - 3) // 3
    head, tail = _word_at(text, most - 3 - length)[0], _word_at(text, len(text) - length)[1]
    return f"{text[:head]}...{text[tail:]}"


def _word_at(text: str, place: int) -> tuple[int, int]:
    """Start and end of the word that ``place`` is in; twice ``place`` where it is longer than a word."""
    start, end = text.rfind(" ", 0, place) + 1, text.find(" ", place)
    end = len(text) if end < 0 else end
    return (start, end) if end - start <= LONGEST_WORD else (place, place)
