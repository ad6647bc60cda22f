"""A Python object in place of a registered name."""

from __future__ import annotations

from typing import Any


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
        made = super().__new__(cls, name)
        made.thing = thing
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled with its object."""
        return NamedObject, (self.thing,)


def name_of(given: Any) -> str:
    """A name as it is given, or the `NamedObject` of an object that is given in its place."""
    return given if isinstance(given, str) else NamedObject(given)
