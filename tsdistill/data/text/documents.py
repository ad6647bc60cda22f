"""Documents: what a text file, a line of JSON or a Python object holds for a model of text."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from tsdistill.errors import TsdistillError, cause_of
from tsdistill.printable import printable
from tsdistill.untrusted import check_regular, read_guard

TEXT_SUFFIXES = (".txt", ".md", ".text")
LINE_SUFFIXES = (".jsonl", ".ndjson")

_TEXT_FIELDS = ("text", "messages", "content", "conversations")
_TARGET_FIELDS = ("target", "output", "summary", "completion", "response", "answer")
_SOURCE_FIELDS = ("source", "input", "prompt", "question", "document", "article", *_TEXT_FIELDS)
_LABEL_FIELDS = ("label", "labels", "class")

_BLOCK = 2**20
"""Characters of a text file that are tokenised at once: a tokenizer takes about a hundred
times their memory."""

_LONGEST = 60
"""Characters of a name of a field in a message."""


@dataclass(frozen=True)
class Document:
    """One text.

    Attributes:
        text: the text, or the messages of a conversation, or token ids.
        target: the text that goes with it, ``None`` for none.
        label: its class, ``None`` for none.
        continued: whether it goes on with the text of the document before it.
    """

    text: Any
    target: Any = None
    label: Any = None
    continued: bool = False


@dataclass(frozen=True)
class Fields:
    """Which fields of a record are read; ``None`` for the usual ones.

    Attributes:
        text: of the text.
        other: of the target of a pair or of the label.
        pairs: whether there is a target.
        labelled: whether there is a label.
    """

    text: str | None = None
    other: str | None = None
    pairs: bool = False
    labelled: bool = False

    def document(self, record: Any, where: str) -> Document:
        """The document in a record.

        Args:
            record: a text, a mapping, a conversation or a pair.
            where: its place, for messages.

        Raises:
            TsdistillError: it has no such field, or what it has there is no text.
        """
        if isinstance(record, str) or _is_chat(record):
            return Document(record)
        if isinstance(record, (tuple, list)) and len(record) == 2 and isinstance(record[0], str):
            return Document(record[0], *((record[1], None) if self.pairs else (None, record[1])))
        if not isinstance(record, Mapping):
            raise TsdistillError(f"{where}: a {type(record).__name__} is no text; give texts, or mappings")
        name = self._field(record, self.text, _SOURCE_FIELDS if self.pairs else _TEXT_FIELDS, where, "text")
        text = record[str(name)]
        if not isinstance(text, str) and not _is_chat(text):
            raise TsdistillError(
                f"{where}: {printable(str(name), _LONGEST)!r} is a {type(text).__name__}, not a text or a "
                "list of messages with role and content"
            )
        if self.pairs:
            target = self._field(record, self.other, _TARGET_FIELDS, where, "target")
            return Document(text, target=record[str(target)])
        if self.labelled:
            label = self._field(record, self.other, _LABEL_FIELDS, where, "")
            return Document(text, label=None if label is None else record[label])
        return Document(text)

    def _field(
        self,
        record: Mapping[str, Any],
        stated: str | None,
        usual: Sequence[str],
        where: str,
        what: str,
    ) -> str | None:
        """The field that is read, ``None`` where there is none and ``what`` it holds is nothing needed."""
        names = [stated] if stated else usual
        known = next((name for name in names if record.get(name) is not None), None)
        if known is None and (stated or what):
            wanted = repr(printable(stated, _LONGEST)) if stated else f"with the {what}"
            fields = ", ".join(printable(str(name), _LONGEST) for name in list(record)[:10]) or "nothing"
            raise TsdistillError(f"{where}: there is no field {wanted}; it has {fields} (write FILE:FIELD)")
        return known


def _is_chat(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and bool(value)
        and all(isinstance(m, Mapping) and "role" in m and "content" in m for m in value)
    )


def of_python(items: Iterable[Any], fields: Fields, name: str) -> Iterator[Document]:
    """The documents of texts, conversations, pairs or mappings that a caller gives.

    Raises:
        TsdistillError: an item is none of these.
    """
    for number, item in enumerate(items):
        yield fields.document(item, f"{name}, item {number}")


def of_file(path: Path, fields: Fields, *, by_line: bool) -> Iterator[Document]:
    """The documents of a file: one of a text file (each line one where ``by_line``), one a line of JSON.

    Args:
        path: the file.
        fields: which fields of a line of JSON are read.
        by_line: lines of a text file are documents of their own; with a tab in them, pairs.

    Raises:
        TsdistillError: it is no file, no UTF-8, or no JSON.
    """
    check_regular(path)
    if path.suffix.lower() in LINE_SUFFIXES:
        for number, line in enumerate(_lines(path), 1):
            if line.strip():
                where = f"{path}, line {number}"
                yield fields.document(_json(line, where), where)
    elif by_line:
        for number, line in enumerate(_lines(path), 1):
            if line.strip():
                yield _line_document(line.rstrip("\n"), fields, f"{path}, line {number}")
    else:
        yield from _blocks(path)


def of_files(paths: Iterable[Path], fields: Fields, *, by_line: bool) -> Iterator[Document]:
    """The documents of several files, one after the other.

    Args:
        paths: the files.
        fields: which fields of a line of JSON are read.
        by_line: as in `of_file`.

    Raises:
        TsdistillError: one cannot be read.
    """
    for path in paths:
        yield from of_file(path, fields, by_line=by_line)


def text_files(root: Path) -> list[Path]:
    """The text files below a folder, in order of their paths.

    Raises:
        TsdistillError: there are none.
    """
    suffixes = (*TEXT_SUFFIXES, *LINE_SUFFIXES)
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in suffixes and path.is_file())
    if not paths:
        raise TsdistillError(
            f"{root} holds no text: the model reads files that end in {', '.join(suffixes)}; give such data"
        )
    return paths


def _line_document(line: str, fields: Fields, where: str) -> Document:
    if not fields.pairs:
        return Document(line)
    source, tab, target = line.partition("\t")
    if not tab:
        raise TsdistillError(
            f"{where}: the model reads pairs of texts and there is one; divide source and target by a tab, "
            "or give a .jsonl with fields for both"
        )
    return Document(source, target=target)


def _json(line: str, where: str) -> Any:
    with read_guard(where, "give one JSON value a line", RecursionError):
        return json.loads(line)


def _lines(path: Path) -> Iterator[str]:
    with _opened(path) as file:
        yield from file


def _blocks(path: Path) -> Iterator[Document]:
    """A text file in blocks that end before an empty line or, without one, before a line end; a tokenizer
    makes the same tokens of them as of the whole."""
    rest, first = "", True
    with _opened(path) as file:
        while piece := file.read(_BLOCK):
            rest += piece
            end = max(rest.rfind("\n\n"), 0) or max(rest.rfind("\n"), 0)
            if len(rest) >= _BLOCK and end:
                yield Document(rest[:end], continued=not first)
                rest, first = rest[end:], False
    if rest:
        yield Document(rest, continued=not first)


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """A text file; one that is not UTF-8, or cannot be read, is an error of one line."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield file
    except UnicodeDecodeError as error:
        raise TsdistillError(
            f"{path} is not UTF-8 (byte 0x{error.object[error.start]:02x}); convert it (iconv -t UTF-8)"
        ) from error
    except OSError as error:
        raise TsdistillError(f"{path} cannot be read ({cause_of(error)}); see that it may be read") from error
