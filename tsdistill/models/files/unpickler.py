"""Pickles read without unpickling: plain data and descriptions of tensors; nothing is imported or called.

The opcodes of a pickle are a small stack machine. This one knows containers, numbers, texts and the few calls
by which PyTorch writes tensors; objects of any other class become placeholders without content. Memory stays
in proportion to the pickle: no opcode allocates by a number that the file merely claims.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass, field, replace
from typing import Any

from tsdistill.models.files.pickled_values import Chunk, Damaged, Foreign, chunk_of, tensor_of

MAX_OBJECTS = 1_000_000
"""Objects that a pickle may make besides the numbers of tensors. A tensor takes nine of
them, so that this is a checkpoint of 110,000 tensors; it bounds time and memory.
"""

_MAX_NAMES = 20
"""Names of classes and functions that are kept for messages."""

_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_MAPPINGS = ("collections.OrderedDict", "collections.defaultdict", "collections.Counter", "builtins.dict")
_TENSORS = tuple(f"torch._utils._rebuild_tensor{version}" for version in ("", "_v2", "_v3"))
_PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
_OF_TYPE = "torch._tensor._rebuild_from_type_v2"
_OBJECTS = ("copyreg._reconstructor", "copyreg.__newobj__", "copyreg.__newobj_ex__")
_UNSUPPORTED = "torch._utils._rebuild_"
_DATA = ("datetime.", "pathlib.", "decimal.", "fractions.", "uuid.", "numpy.dtype", "numpy.ndarray")
_PLAIN = (
    *(f"builtins.{kind}" for kind in ("set", "frozenset", "complex", "bytearray", "slice", "range")),
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *("_codecs.encode", "argparse.Namespace", "collections.deque", "torch.serialization._get_layout"),
    *("torch.device", "torch.Generator", "types.SimpleNamespace"),
)


@dataclass
class Pickled:
    """What a pickle holds.

    Attributes:
        value: dicts, lists, tuples, numbers, texts, `Stored` tensors, `Foreign` placeholders.
        classes: of objects that were left unread.
        calls: functions that unpickling would call, other than those known to make plain data.
        chunks: the runs of numbers by key.
    """

    value: Any = None
    classes: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    chunks: dict[str, Chunk] = field(default_factory=dict)


def read(stream: Any) -> Pickled:
    """Read one pickle from where a ``BytesIO`` or an ``mmap`` stands; it is left behind the pickle.

    Raises:
        Damaged: the stream is no pickle, or one that no ordinary object gives.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            machine.step(opcode.name, argument)
    except Damaged:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise Damaged(f"{type(error).__name__}: {error}") from error
    return machine.result


class _Machine:
    """The stack, the memo, and a method an opcode."""

    def __init__(self) -> None:
        self.result = Pickled()
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.left = MAX_OBJECTS

    def step(self, name: str, argument: Any) -> None:
        """Carry out one opcode."""
        if name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _LITERALS:
            self.stack.append(argument)
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[int(argument)])
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[int(argument)] = self.stack[-1]
        elif name in _TUPLES:
            self._take(_TUPLES[name])
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name not in ("PROTO", "FRAME"):
            method = getattr(self, f"_do_{name.lower()}", None)
            if method is None:
                raise Damaged(f"the opcode {name} is not one of torch.save's")
            method(argument)

    def _spend(self, count: int = 1) -> None:
        self.left -= count
        if self.left < 0:
            raise Damaged(f"more than {MAX_OBJECTS} objects besides the tensors")

    def _marked(self) -> list[Any]:
        items, self.stack = self.stack, self.outer.pop()
        return items

    def _do_stop(self, _: Any) -> None:
        self.result.value = self.stack.pop()

    def _do_mark(self, _: Any) -> None:
        self._spend()
        self.outer.append(self.stack)
        self.stack = []

    def _do_pop(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._marked()

    def _do_pop_mark(self, _: Any) -> None:
        self._marked()

    def _do_dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def _make(self, value: Any) -> None:
        self._spend()
        self.stack.append(value)

    def _do_empty_list(self, _: Any) -> None:
        self._make([])

    _do_empty_set = _do_empty_list

    def _do_list(self, _: Any) -> None:
        self._make(self._marked())

    _do_frozenset = _do_list

    def _do_append(self, _: Any) -> None:
        item = self.stack.pop()
        self._extend([item])

    def _do_appends(self, _: Any) -> None:
        self._extend(self._marked())

    _do_additems = _do_appends

    def _extend(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(items)

    def _do_tuple(self, _: Any) -> None:
        self._make(tuple(self._marked()))

    def _take(self, count: int) -> None:
        if len(self.stack) < count:
            raise Damaged("the stack is empty")
        items = tuple(self.stack[-count:])
        del self.stack[-count:]
        self._make(items)

    def _do_empty_dict(self, _: Any) -> None:
        self._make({})

    def _do_dict(self, _: Any) -> None:
        items = self._marked()
        self._make({})
        self._fill(items)

    def _do_setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._fill([key, value])

    def _do_setitems(self, _: Any) -> None:
        self._fill(self._marked())

    def _fill(self, items: list[Any]) -> None:
        """Put keys and values into the dict on the stack; keys that are no texts or numbers are left out."""
        target = self.stack[-1]
        if isinstance(target, dict):
            for key, value in zip(items[::2], items[1::2], strict=True):
                if isinstance(key, (str, int, float, bytes)) or key is None:
                    target[key] = value

    def _do_global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._make(_named(module, name))

    def _do_stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise Damaged("a name that is no text")
        self._make(_named(module, name))

    def _do_inst(self, argument: str) -> None:
        self._marked()
        self._do_global(argument)
        self._object(self.stack.pop())

    def _do_obj(self, _: Any) -> None:
        self._object(self._marked()[0])

    def _do_newobj(self, _: Any) -> None:
        del self.stack[-1]
        self._object(self.stack.pop())

    def _do_newobj_ex(self, _: Any) -> None:
        del self.stack[-2:]
        self._object(self.stack.pop())

    def _object(self, kind: Any) -> None:
        """An object of a class, without what the class would make of it."""
        if not isinstance(kind, Foreign):
            raise Damaged("an object of something that is no class")
        if kind.name in _MAPPINGS:
            self._make({})
            return
        if kind.name not in _PLAIN and not kind.name.startswith(_DATA):
            _note(self.result.classes, kind.name)
        self._make(kind)

    def _do_build(self, _: Any) -> None:
        self.stack.pop()
        if not self.stack:
            raise Damaged("the stack is empty")

    def _do_reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Foreign) or not isinstance(arguments, tuple):
            raise Damaged("a call of something that is no function")
        self._call(function, arguments)

    def _call(self, function: Foreign, arguments: tuple[Any, ...]) -> None:
        name = function.name
        if name == _OF_TYPE and len(arguments) > 2 and isinstance(arguments[0], Foreign):
            function, arguments = arguments[0], arguments[2]
            name = function.name
        if name in _TENSORS:
            self._make(tensor_of(arguments))
        elif name in _PARAMETERS:
            self.stack.append(arguments[0])
        elif name in _MAPPINGS:
            self._mapping(arguments[-1] if arguments else ())
        elif name == "torch.Size":
            self._make(arguments[0])
        elif name in _OBJECTS:
            self._object(arguments[0])
        elif name in _PLAIN or name.startswith(_DATA):
            self._make(function)
        else:
            _note(self.result.classes if name.startswith(_UNSUPPORTED) else self.result.calls, name)
            self._make(function)

    def _mapping(self, items: Any) -> None:
        """A mapping of pairs, or of what another one holds."""
        self._make({})
        if isinstance(items, dict):
            items = list(items.items())
        if isinstance(items, (list, tuple)):
            self._spend(len(items))
            for pair in items:
                self._fill([*pair])

    def _do_binpersid(self, _: Any) -> None:
        chunk = chunk_of(self.stack.pop())
        known = self.result.chunks.setdefault(chunk.key, replace(chunk, begin=0))
        if known != replace(chunk, begin=0):
            raise Damaged(f"the storage {chunk.key[:40]!r} has two types")
        self._make(chunk)


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_LITERALS = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    }
)


def _named(module: str, name: str) -> Foreign:
    return Foreign(f"{_MODULES.get(module, module)}.{name}")


def _note(names: list[str], name: str) -> None:
    if name not in names and len(names) < _MAX_NAMES:
        names.append("".join(c for c in name if c.isprintable())[:80])
