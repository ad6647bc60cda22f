"""Fields of option classes: what an option means, which values it takes, and the check of a value."""

from __future__ import annotations

import dataclasses
import difflib
import math
import numbers
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import MISSING, dataclass
from functools import cache
from typing import Any, Self

from tsdistill.errors import TsdistillError
from tsdistill.printable import printable

LARGEST_SEED = 2**63 - 1
"""PyTorch's generators take seeds of 64 bits, and what is derived from a seed fits too."""

_LONGEST_OPTION = 40
"""Characters of an unknown name that are compared with the names there are; the longest has 18."""

_LONGEST_VALUE = 60
"""Characters of a wrong value in a message."""

_FLAGS: Mapping[tuple[str, bool | str | None], str] = {
    ("pairs", None): "--pair",
    ("dynamic_batch", False): "--static-batch",
}
"""Names on the command line, by keyword and value, that are not ``--keyword``."""

_KEY = "option"
"""Key of an `OptionField` in the metadata of its dataclass field."""


@dataclass(frozen=True, kw_only=True)
class OptionField:
    """What is known of an option besides its name, type and default.

    Attributes:
        help: what it means, for ``--help`` and the documentation.
        section: heading that it stands under in ``--help``.
        metavar: placeholder of its value on the command line; without one the option is not offered there.
        least: smallest value, inclusive.
        most: largest value, inclusive.
        above: lower bound, exclusive.
        below: upper bound, exclusive.
        choices: the texts that it takes.
        form: how the value is written on the command line where the type does not say it: a key of
            ``tsdistill.cli.field_options.FORMS``.
        flags: names on the command line where they differ from ``--field-name``.
    """

    help: str
    section: str = "Other"
    metavar: str | None = None
    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    form: str = ""
    flags: tuple[str, ...] = ()

    @property
    def range(self) -> str:
        """The numbers that are allowed, in words; ``""`` where all are."""
        if self.least is not None and self.most is not None:
            return f"from {_number(self.least)} to {_number(self.most)}"
        if self.least is not None and self.below is not None:
            return f"from {_number(self.least)} to below {_number(self.below)}"
        if self.above is not None and self.most is not None:
            return f"above {_number(self.above)} and at most {_number(self.most)}"
        bounds = (("at least", self.least), ("above", self.above), ("at most", self.most))
        return next((f"{words} {_number(bound)}" for words, bound in bounds if bound is not None), "")

    def holds(self, value: float) -> bool:
        """Whether a number is within the range."""
        return (
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )


def option(default: Any = MISSING, help: str = "", *, factory: Any = MISSING, **known: Any) -> Any:
    """A field of an option class.

    Args:
        default: its default.
        help: what it means.
        factory: makes the default, where that is mutable.
        known: the other attributes of `OptionField`.
    """
    metadata = {_KEY: OptionField(help=help, **known)}
    if factory is not MISSING:
        return dataclasses.field(default_factory=factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


class OptionSet:
    """Base of the option classes; each is a frozen dataclass whose fields are made by `option`.

    Raises:
        TsdistillError: when one is made with a value of another type or out of range.
    """

    def __post_init__(self) -> None:
        for name, known in known_fields(type(self)).items():
            value = self.converted(name, getattr(self, name), "")
            object.__setattr__(self, name, known.checked(value))

    @classmethod
    def of(cls, value: Self | Mapping[str, Any] | None, where: str = "") -> Self:
        """The options that a caller gives.

        Args:
            value: an object of this class, some options by name (dashes count as underscores), or ``None``
                for the defaults.
            where: the file that they come from, for messages.

        Raises:
            TsdistillError: a name that does not exist (says the nearest one), or a value that is not taken.
        """
        if value is None:
            return cls()
        if type(value) is cls:
            return value
        if isinstance(value, OptionSet):
            shared = [name for name in known_fields(type(value)) if name in known_fields(cls)]
            if shared:
                return cls(**{name: getattr(value, name) for name in shared})
        if not isinstance(value, Mapping):
            raise TsdistillError(
                f"{cls.__name__} or a mapping of options by name is wanted, not a {type(value).__name__}"
            )
        known = known_fields(cls)
        at = f"{where}: " if where else ""
        chosen: dict[str, Any] = {}
        for key, item in value.items():
            name = str(key).replace("-", "_")
            if name not in known:
                what = f"{at}there is no {cls.words()} option {printable(key, _LONGEST_VALUE)!r}"
                raise TsdistillError(f"{what}; {nearest(name, known)}")
            chosen[name] = known[name].checked(cls.converted(name, item, at), at)
        return cls(**chosen)

    @classmethod
    def words(cls) -> str:
        """What these options are of, for messages: ``"data"`` for `DataOptions`."""
        return cls.__name__.removesuffix("Options").lower()

    @classmethod
    def converted(cls, name: str, value: Any, at: str) -> Any:  # noqa: ARG003
        """A value that is given by name in the form of its field; ``at`` is a place for messages."""
        return value

    def to_dict(self) -> dict[str, Any]:
        """The options by name; the values are not copied."""
        return {name: getattr(self, name) for name in known_fields(type(self))}

    def changed(self) -> dict[str, Any]:
        """The options that are not at their defaults, by name."""
        default = type(self)()
        values = {name: getattr(self, name) for name in known_fields(type(self))}
        return {name: value for name, value in values.items() if _differs(value, getattr(default, name))}

    def refuse(self, what: str, *names: str) -> None:
        """Refuse options that a function has no use for.

        Raises:
            TsdistillError: one of ``names`` is not at its default; ``what`` says who has no use for it.
        """
        for name in self.changed():
            if name in names:
                raise TsdistillError(f"{what} takes no {written(name)}; leave it out")


@dataclass(frozen=True)
class Known:
    """A field of an option class.

    Attributes:
        name: of the field.
        type: the type that the class declares.
        default: value without the option.
        field: what else is known.
    """

    name: str
    type: Any
    default: Any
    field: OptionField

    @property
    def several(self) -> bool:
        """Whether a value is a tuple of items, each as `scalars` and the range of the field say."""
        return typing.get_origin(self.type) is tuple

    @property
    def scalars(self) -> tuple[type, ...]:
        """The scalar types that it takes: some of ``bool``, ``int``, ``float`` and ``str``; none where the
        declared type has other parts, which are checked where they are used."""
        parts = typing.get_args(self.type)[:1] if self.several else _parts(self.type)
        plain = tuple(part for part in parts if part in (bool, int, float, str))
        return plain if len(plain) == len([part for part in parts if part is not type(None)]) else ()

    @property
    def optional(self) -> bool:
        """Whether ``None`` is a value."""
        return type(None) in _parts(self.type)

    def checked(self, value: Any, at: str = "") -> Any:
        """The value, an int as a float where that is the type.

        Raises:
            TsdistillError: it is of another type or out of range; the option is named as the user wrote it.
        """
        value, fault = self.judged(value)
        if fault:
            raise TsdistillError(f"{at}{written(self.name)} {fault}")
        return value

    def judged(self, value: Any) -> tuple[Any, str]:
        """The value as its type, and what is wrong with it: ``""``, or ``"must be at least 1, not 0"``."""
        scalars = self.scalars
        if not scalars or (value is None and self.optional):
            return value, ""
        if not self.several:
            return self._judged_item(value, scalars)
        if not isinstance(value, list | tuple) or not value:
            return value, f"takes a list of at least one item, not {printable(repr(value), _LONGEST_VALUE)}"
        items = [self._judged_item(item, scalars) for item in value]
        return tuple(item for item, _ in items), next((fault for _, fault in items if fault), "")

    def _judged_item(self, value: Any, scalars: tuple[type, ...]) -> tuple[Any, str]:
        """`judged` of a value that is no tuple."""
        typed = _typed(value, scalars)
        shown = printable(repr(value), _LONGEST_VALUE) if not _huge(value) else "a huge number"
        if typed is None:
            words = " or ".join(_WORDS[each] for each in scalars)
            return value, f"takes {words}, not {shown}"
        if isinstance(typed, str):
            if self.field.choices and typed not in self.field.choices:
                return value, f"is one of {', '.join(self.field.choices)}, not {shown}"
            return typed, ""
        if isinstance(typed, float) and not math.isfinite(typed):
            return value, f"must be a finite number, not {shown}"
        if not isinstance(typed, bool) and not self.field.holds(typed):
            return value, f"must be {self.field.range}, not {shown}"
        return typed, ""


_WORDS = {bool: "True or False", int: "a whole number", float: "a number", str: "text"}


def known_fields(cls: type[OptionSet]) -> Mapping[str, Known]:
    """The fields of an option class by name, in order."""
    return _known_fields(cls)  # type: ignore[arg-type]


@cache
def _known_fields(cls: type[OptionSet]) -> Mapping[str, Known]:
    hints = typing.get_type_hints(cls)
    return types.MappingProxyType(
        {
            each.name: Known(each.name, hints[each.name], _default(each), _option_field(cls, each.name))
            for each in dataclasses.fields(cls)  # type: ignore[arg-type]
        }
    )


def _option_field(cls: type, name: str) -> OptionField:
    """What is known of a field; a subclass may give a field of its base another default alone."""
    declared = (base.__dict__.get("__dataclass_fields__", {}).get(name) for base in cls.__mro__)
    return next(field.metadata[_KEY] for field in declared if field is not None and _KEY in field.metadata)


def check_seed(seed: int) -> None:
    """Refuse what is no seed.

    Raises:
        TsdistillError: it is not from 0 to 2**63 - 1.
    """
    SEED.checked(seed)


def nearest(name: str, known: typing.Iterable[str], spell: Callable[[str], str] = str) -> str:
    """The way out for a name that does not exist: the nearest one, else all of them."""
    known = list(known)
    near = difflib.get_close_matches(name[:_LONGEST_OPTION], known, n=1)
    return f"did you mean {spell(near[0])}?" if near else f"there are {', '.join(map(spell, known))}"


_spelling: ContextVar[Callable[..., str] | None] = ContextVar("spelling", default=None)


def written(name: str, value: bool | str | None = None) -> str:
    """An option as the user writes it, for messages.

    Args:
        name: the keyword of the Python functions.
        value: the value that the message speaks of, ``None`` for none.

    Returns:
        ``round_to``, ``trust=True`` or ``loss='mse'`` in Python; ``--round-to``, ``--trust`` or
        ``--loss mse`` on the command line (see `spelled`).
    """
    spell = _spelling.get()
    if spell is not None:
        return spell(name, value)
    return name if value is None else f"{name}={value!r}"


@contextmanager
def spelled(spell: Callable[..., str]) -> Iterator[None]:
    """Name options by ``spell``, which takes what `written` takes, in messages inside the block."""
    token = _spelling.set(spell)
    try:
        yield
    finally:
        _spelling.reset(token)


def flag(name: str, value: bool | str | None = None) -> str:
    """An option on the command line: ``--round-to`` for ``round_to``; see `written`."""
    other = _FLAGS.get((name, value)) or _FLAGS.get((name, None))
    if other:
        return f"{other} {value}" if isinstance(value, str) else other
    dashed = name.replace("_", "-")
    if value is False:
        return f"--no-{dashed}"
    return f"--{dashed} {value}" if isinstance(value, str) else f"--{dashed}"


def _number(value: float) -> str:
    """A bound in words."""
    if value == LARGEST_SEED:
        return "2**63 - 1"
    return f"{value:g}" if abs(value) < 1e6 else str(value)


def _default(each: dataclasses.Field[Any]) -> Any:
    if each.default_factory is not MISSING:
        return each.default_factory()
    return each.default


def _parts(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the type alone."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.get_args(hint)
    return (hint,)


def _typed(value: Any, scalars: tuple[type, ...]) -> Any:
    """The value as the first of the types that it is of; ``None`` where it is of none."""
    if isinstance(value, bool):
        return value if bool in scalars else None
    if int in scalars and isinstance(value, numbers.Integral):
        return int(value)
    if float in scalars and isinstance(value, numbers.Real):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    if str in scalars and isinstance(value, str):
        return value
    return None


def _huge(value: Any) -> bool:
    """Whether a whole number has too many digits to be written."""
    return isinstance(value, int) and abs(value) >= 10**18 * 2**63


def _differs(value: Any, default: Any) -> bool:
    if value is default:
        return False
    if isinstance(value, (bool, int, float, str, tuple, list, dict, type(None))):
        return bool(value != default) if isinstance(default, type(value) | type(None)) else True
    return True


SEED = Known(
    "seed", int, 0, OptionField(help="Of everything random.", least=0, most=LARGEST_SEED, metavar="N")
)
"""The option ``seed``, which every function takes beside its option objects."""
