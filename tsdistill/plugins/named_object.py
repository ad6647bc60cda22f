"""A Python object in place of a registered name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tsdistill.errors import TsdistillError


class NamedObject(str):
    """The name of an object that is not registered, and the object itself.

    It is a string, so that reports, messages and tables show it as any name; `tsdistill.plugins.get`
    gives the object back, whatever may be registered under that name.

    Attributes:
        thing: the object.
    """

    __slots__ = ("thing",)

    thing: Any

    def __new__(cls, thing: Any) -> NamedObject:
        """Name an object: by its attribute ``name``, or by its class or function."""
        own = getattr(thing, "name", None)
        name = own if isinstance(own, str) and own else getattr(thing, "__name__", type(thing).__name__)
        named = super().__new__(cls, name)
        named.thing = thing
        return named

    def __deepcopy__(self, memo: object) -> NamedObject:
        """Itself: what is copied is a name."""
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled with its object."""
        return NamedObject, (self.thing,)


def name_of(item: Any) -> str:
    """A name as it is given, or the `NamedObject` of an object that is given in its place."""
    return item if isinstance(item, str) else NamedObject(item)


def names_of(items: Any) -> tuple[str, ...]:
    """The names of one thing or of several (an iterable), each a name or an object, each once.

    Raises:
        TsdistillError: two different objects of one name.
    """
    single = isinstance(items, str) or callable(items) or not isinstance(items, Iterable)
    names: dict[str, str] = {}
    for each in [items] if single else items:
        name = name_of(each)
        known = names.setdefault(name, name)
        if getattr(known, "thing", None) is not getattr(name, "thing", None):
            raise TsdistillError(f"two of these are called {name}; give one of them another name= attribute")
    return tuple(names.values())
