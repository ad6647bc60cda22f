"""Sequences of tokens as data sets: rows in memory or in a file, and streams of documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Dataset, IterableDataset

from tsdistill.data.text.documents import Document
from tsdistill.data.text.text_spec import CAUSAL, CLASSES, FEATURES, PAIRS, TextSpec
from tsdistill.data.text.text_tokenizer import TextTokenizer
from tsdistill.data.text.token_layout import PADDING, TokenLayout
from tsdistill.errors import TsdistillError
from tsdistill.options.option_fields import written

_CHECKED = 2**24
"""Tokens of a mapped file that are looked at together: 64 MB."""


class Row(NamedTuple):
    """A sequence of tokens.

    Attributes:
        tokens: its ids.
        target: ids of the target of a pair, ``None`` for none.
        label: class of the text, ``None`` for none.
    """

    tokens: Sequence[int]
    target: Sequence[int] | None = None
    label: Any = None


class TokenRows(Dataset):
    """Sequences of tokens of one length.

    Args:
        tokens: ids ``[samples, length]``, negative where there is no token.
        layout: makes a sample of a row.
        description: what messages call the samples.
        targets: ids ``[samples, length]`` of the targets of pairs.
        classes: class of every text.

    Raises:
        TsdistillError: an id is beyond the vocabulary, or a row has no token at all.
    """

    synthetic = False
    pictures = False

    def __init__(
        self,
        tokens: np.ndarray,
        layout: TokenLayout,
        description: str,
        targets: np.ndarray | None = None,
        classes: Sequence[Any] | None = None,
    ) -> None:
        self._tokens, self._targets, self._classes = tokens, targets, classes
        self._layout, self.description = layout, description
        self.labelled = layout.labelled
        if self.labelled is None:
            self.labelled = classes is not None
        rows = max(1, _CHECKED // max(1, tokens.shape[1]))
        for start in range(0, len(tokens), rows):
            part = tokens[start : start + rows]
            layout.check(part)
            empty = (part < 0).all(1)
            if bool(empty.any()):
                raise TsdistillError(
                    f"row {start + int(empty.argmax())} of {layout.name} is padding everywhere; leave it out"
                )
        if targets is not None:
            layout.check(targets)

    def __len__(self) -> int:
        return len(self._tokens)

    def __getitem__(self, index: int) -> Any:
        """Sample ``index`` and its labels."""
        target = None if self._targets is None else self._targets[index]
        label = None if self._classes is None else self._classes[index]
        return self._layout.sample(self._tokens[index], index, target, label)


class TokenStream(IterableDataset):
    """Sequences of tokens made of documents as they come.

    Args:
        rows: gives the sequences anew.
        layout: makes a sample of a row.
        description: what messages call the samples.
    """

    synthetic = False
    pictures = False

    def __init__(self, rows: Callable[[], Iterator[Row]], layout: TokenLayout, description: str) -> None:
        self._rows, self._layout, self.description = rows, layout, description
        self.labelled = layout.labelled

    def __iter__(self) -> Iterator[Any]:
        width = self._layout.spec.length
        for number, row in enumerate(self._rows()):
            tokens = matrix([row.tokens], width)
            target = None if row.target is None else matrix([row.target], width)
            for each in (tokens, target):
                if each is not None:
                    self._layout.check(each)
            yield self._layout.sample(tokens[0], number, None if target is None else target[0], row.label)


def rows_of(
    documents: Iterable[Document], tokenizer: TextTokenizer, spec: TextSpec, name: str
) -> Iterator[Row]:
    """Documents as sequences of at most ``spec.length`` tokens.

    Where the task is one of single texts (classes, pairs), every document is a sequence, cut to the length.
    Otherwise documents are joined, the end of a text between them, and divided into sequences of that very
    length; what is left at the end is dropped.

    Args:
        documents: what is read.
        tokenizer: makes tokens of it.
        spec: how the model reads text.
        name: what messages call the text.

    Raises:
        TsdistillError: there is no text, or less than one sequence.
    """
    if spec.task in (CLASSES, PAIRS):
        yield from _single(documents, tokenizer, spec, name)
    else:
        yield from _packed(documents, tokenizer, spec, name)


def collected(rows: Iterable[Row], layout: TokenLayout, description: str) -> TokenRows:
    """Sequences in memory, filled up to the longest.

    Args:
        rows: the sequences.
        layout: makes a sample of a row.
        description: what messages call the samples.
    """
    kept = list(rows)
    tokens = matrix([row.tokens for row in kept])
    targets = [row.target for row in kept if row.target is not None]
    labels = [row.label for row in kept]
    return TokenRows(
        tokens,
        layout,
        description,
        matrix(targets) if targets else None,
        None if any(label is None for label in labels) else labels,
    )


def matrix(rows: Sequence[Sequence[int]], width: int | None = None) -> np.ndarray:
    """Rows of ids as one array ``[rows, width]``, `PADDING` behind shorter ones.

    Args:
        rows: the ids.
        width: of the array; the longest row by default.
    """
    width = max((len(row) for row in rows), default=0) if width is None else width
    filled = np.full((len(rows), width), PADDING, np.int32)
    for place, row in enumerate(rows):
        filled[place, : len(row)] = row
    return filled


def _packed(
    documents: Iterable[Document], tokenizer: TextTokenizer, spec: TextSpec, name: str
) -> Iterator[Row]:
    held: list[int] = []
    total, length = 0, spec.length
    ends = tokenizer.ends if tokenizer.ends is not None else spec.ends
    separates = ends is not None and spec.task in (CAUSAL, FEATURES)
    for document in documents:
        ids = _encoded(document.text, tokenizer, special=not document.continued)
        if total and separates and not document.continued and isinstance(document.text, str):
            held.append(ends)  # type: ignore[arg-type]
        held += ids
        total += len(ids)
        whole = len(held) // length * length
        for start in range(0, whole, length):
            yield Row(held[start : start + length])
        held = held[whole:]
    if total < length:
        raise TsdistillError(
            f"{name} holds {total} tokens, fewer than one sequence of {length}; give more text or a smaller "
            f"{written('length')}"
        )


def _single(
    documents: Iterable[Document], tokenizer: TextTokenizer, spec: TextSpec, name: str
) -> Iterator[Row]:
    rows = 0
    for document in documents:
        tokens = _cut(_encoded(document.text, tokenizer), spec.length, tokenizer)
        target = None
        if spec.task == PAIRS:
            target = _cut(_encoded(document.target, tokenizer), spec.length, tokenizer)
        if not tokens or target == []:
            continue
        rows += 1
        yield Row(tokens, target, _class(document.label, spec, name))
    if not rows:
        raise TsdistillError(f"{name} holds no text; give some")


def _encoded(text: Any, tokenizer: TextTokenizer, *, special: bool = True) -> list[int]:
    if isinstance(text, str):
        return tokenizer.encode(text, special=special)
    return tokenizer.encode(tokenizer.chat(text), special=False)


def _cut(ids: list[int], length: int, tokenizer: TextTokenizer) -> list[int]:
    """At most so many ids; the token that closes a text stays."""
    if len(ids) <= length:
        return ids
    return ids[: length - 1] + ids[-1:] if ids[-1] in tokenizer.closing else ids[:length]


def _class(label: Any, spec: TextSpec, name: str) -> Any:
    """The number of a class, which the model's configuration may name."""
    if not isinstance(label, str):
        return label
    if label not in spec.classes:
        known = ", ".join(list(spec.classes)[:10]) or "none"
        raise TsdistillError(f"{name}: the model has no class {label[:60]!r}; it has {known}")
    return spec.classes[label]
