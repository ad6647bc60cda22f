"""A tokenizer of any library by one interface."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tsdistill.errors import TsdistillError, cause_of
from tsdistill.models.sources.offline import quiet_downloads
from tsdistill.options.option_fields import written
from tsdistill.printable import printable

_LONGEST = 80
"""Characters of a tokenizer's name or of a text in a message."""


class TextTokenizer:
    """Tokens of texts.

    Args:
        tokenizer: an object of transformers, or any with ``encode(text) -> ids``.
        name: what messages call it.

    Attributes:
        name: what messages call it.
        ends: id of the end of a text, ``None`` for none.
        padding: id that fills rows up, ``None`` for none.
        mask: id that hides a token, ``None`` for none.
        closing: ids that close a text: those of the end and of separators.
    """

    def __init__(self, tokenizer: Any, name: str) -> None:
        self._tokenizer, self.name = tokenizer, name
        self._of_transformers = hasattr(tokenizer, "apply_chat_template") and callable(tokenizer)
        self.ends = self._special("eos_token_id")
        self.padding = self._special("pad_token_id")
        self.mask = self._special("mask_token_id")
        self.closing = {each for each in (self.ends, self._special("sep_token_id")) if each is not None}

    @property
    def of_transformers(self) -> Any:
        """The tokenizer as an object of transformers.

        Raises:
            TsdistillError: it is of another library.
        """
        if not self._of_transformers:
            raise TsdistillError(f"the tokenizer {self.name} is none of transformers; give one that is")
        return self._tokenizer

    def _special(self, name: str) -> int | None:
        value = getattr(self._tokenizer, name, None)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """The ids of a text.

        Args:
            text: the text.
            special: with the tokens that the tokenizer adds to a text (its begin, ``[CLS]`` ...).

        Raises:
            TsdistillError: the tokenizer fails on it.
        """
        try:
            if self._of_transformers:
                with _quiet():
                    ids = self._tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"]
            else:
                ids = self._tokenizer.encode(text)
            return [int(each) for each in getattr(ids, "ids", ids)]
        except Exception as error:  # a tokenizer may raise anything
            raise TsdistillError(
                f"the tokenizer {self.name} fails on {printable(text, _LONGEST)!r}: {cause_of(error)}"
            ) from error

    def chat(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """A conversation as one text, as the tokenizer's template lays it out.

        Raises:
            TsdistillError: it has no template, or the messages do not fit it.
        """
        if not getattr(self._tokenizer, "chat_template", None):
            raise TsdistillError(
                f"the data are conversations and the tokenizer {self.name} has no chat template; give plain "
                "text, or a tokenizer that has one"
            )
        try:
            return str(self._tokenizer.apply_chat_template([dict(m) for m in messages], tokenize=False))
        except Exception as error:  # a template may raise anything
            raise TsdistillError(
                f"the chat template of {self.name} refuses a conversation: {cause_of(error)}; see that every "
                "message has role and content"
            ) from error


def open_tokenizer(place: Any) -> TextTokenizer:
    """The tokenizer in a folder, in a ``tokenizer.json``, of the hub, or an object that is one.

    Raises:
        TsdistillError: transformers is not installed, there is none, or the object cannot encode.
    """
    if place is None:
        raise TsdistillError(
            "text needs a tokenizer and nothing says which one the model was made with; give "
            f"{written('tokenizer')}: a folder, a tokenizer.json or a name of the hub"
        )
    if not isinstance(place, (str, Path)):
        return _of_object(place)
    path = Path(place).expanduser()
    name = printable(str(place), _LONGEST)
    library = _transformers(name)
    local = path.exists() or str(place).startswith((".", "/", "~"))
    if local and not path.exists():
        raise TsdistillError(f"{written('tokenizer')} {name}: there is no such folder or file")
    try:
        with _quiet(), quiet_downloads():
            if path.is_file():
                return TextTokenizer(library.PreTrainedTokenizerFast(tokenizer_file=str(path)), name)
            kind = library.AutoTokenizer
            source = str(path) if local else str(place)
            tokenizer = kind.from_pretrained(source, trust_remote_code=False, local_files_only=local)
    except Exception as error:  # a file of anybody's may make its reader raise anything
        raise TsdistillError(
            f"there is no tokenizer in {name} that can be read ({cause_of(error)}); give "
            f"{written('tokenizer')}: a folder, a tokenizer.json or a name of the hub"
        ) from error
    return TextTokenizer(tokenizer, name)


def _of_object(tokenizer: Any) -> TextTokenizer:
    name = type(tokenizer).__name__
    if isinstance(tokenizer, TextTokenizer):
        return tokenizer
    if not callable(getattr(tokenizer, "encode", None)):
        raise TsdistillError(
            f"{written('tokenizer')}: a {name} cannot encode text; give an object with encode(text) -> ids"
        )
    if hasattr(tokenizer, "encode_batch") and hasattr(tokenizer, "to_str"):  # of the library tokenizers
        tokenizer = _transformers(name).PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    return TextTokenizer(tokenizer, name)


def _transformers(name: str) -> Any:
    try:
        import transformers
    except ImportError as error:
        raise TsdistillError(
            f"the tokenizer {name} needs transformers, which is not installed; pip install tsdistill[hf]"
        ) from error
    return transformers


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's warnings, such as that on texts longer than the model takes."""
    log = logging.getLogger("transformers")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)
