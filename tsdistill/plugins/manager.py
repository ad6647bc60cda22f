"""Finding what is registered by name: the built-ins, and the plugins that are installed beside them.

The built-ins are modules named here by strings; they are imported when something of their kind is first
asked for and go through the same hooks as everybody else's.
"""

from __future__ import annotations

import difflib
import importlib
import logging
import os
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from tsdistill.errors import TsdistillError
from tsdistill.plugins import hookspecs

ENTRY_POINTS = "tsdistill"
COMMANDS = "tsdistill.commands"
ENVIRONMENT = "TSDISTILL_PLUGINS"

_HOOKS = {
    "alignment metric": "register_alignment_metrics",
    "augmentation": "register_augmentations",
    "data source": "register_data_sources",
    "model source": "register_model_sources",
    "evaluation metric": "register_evaluation_metrics",
    "loss": "register_losses",
}
KINDS = tuple(_HOOKS)

BUILTINS: Mapping[str, tuple[str, ...]] = {
    "alignment metric": ("tsdistill.alignment.metrics.builtin_metrics",),
    "augmentation": ("tsdistill.augmentation.strategies",),
    "data source": ("tsdistill.data.builtin_data",),
    "model source": ("tsdistill.models.sources.builtin_sources",),
    "evaluation metric": ("tsdistill.evaluation.class_metrics",),
    "loss": ("tsdistill.distillation.losses.builtin_losses",),
}

_log = logging.getLogger(__name__)


class Registry:
    """Things by kind and name, collected from hooks when a kind is first asked for.

    Args:
        builtins: per kind the names of the modules that implement its hook.
    """

    def __init__(self, builtins: Mapping[str, tuple[str, ...]] = BUILTINS) -> None:
        self._builtins = builtins
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._kinds: dict[str, dict[str, Any]] = {}
        self._owners: dict[str, dict[str, str]] = {}
        self._third_party_loaded = False

    def items(self, kind: str) -> dict[str, Any]:
        """Everything of a kind, by name.

        Raises:
            TsdistillError: the kind is unknown, or two plugins register the same name.
        """
        if kind not in _HOOKS:
            raise TsdistillError(f"there is no kind {kind!r} of plugin; kinds are {', '.join(KINDS)}")
        if kind not in self._kinds:
            self._load_builtins(kind)
            self._load_third_party()
            self._kinds[kind] = self._collect(kind)
        return dict(self._kinds[kind])

    def names(self, kind: str) -> list[str]:
        """The names of a kind, sorted."""
        return sorted(self.items(kind))

    def get(self, kind: str, name: str) -> Any:
        """The thing of that kind and name.

        Raises:
            TsdistillError: nothing has that name; the message names what comes nearest.
        """
        items = self.items(kind)
        if name in items:
            return items[name]
        near = difflib.get_close_matches(name, items, n=3, cutoff=0.5)
        way_out = (
            f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(sorted(items)) or 'none'}"
        )
        raise TsdistillError(f"unknown {kind} {name!r}; {way_out}")

    def origin(self, kind: str, name: str) -> str:
        """Who registered a name: ``"tsdistill"`` for a built-in, else ``"plugin 'x' of package 1.0"``.

        Raises:
            TsdistillError: nothing has that name; the message names what comes nearest.
        """
        self.get(kind, name)
        owner = self._owners[kind][name]
        return "tsdistill" if owner in self._builtins.get(kind, ()) else owner

    def _load_builtins(self, kind: str) -> None:
        for name in self._builtins.get(kind, ()):
            if not self._manager.has_plugin(name):
                self._manager.register(importlib.import_module(name), name=name)

    def _load_third_party(self) -> None:
        if self._third_party_loaded:
            return
        self._third_party_loaded = True
        for entry in third_party():
            title = _title(entry)
            try:
                self._manager.register(entry.load(), name=title)
            except Exception as error:
                _warn(title, error)

    def _collect(self, kind: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        owners: dict[str, str] = {}
        plugins = self._manager.list_name_plugin()
        for title, plugin in plugins:
            if plugin is None:
                continue
            others = [other for _, other in plugins if other is not None and other is not plugin]
            own = self._manager.subset_hook_caller(_HOOKS[kind], others)
            taken: dict[str, Any] = {}
            try:
                own(register=_collector(taken))
            except Exception as error:
                if title in self._builtins.get(kind, ()):
                    raise
                _warn(title, error)
                continue
            for name, thing in taken.items():
                if name in found:
                    raise TsdistillError(
                        f"{kind} {name!r} is registered by both {owners[name]} and {title}; uninstall one, "
                        f"or name the plugins to load in the environment variable {ENVIRONMENT}"
                    )
                found[name], owners[name] = thing, title
        self._owners[kind] = owners
        return found


def third_party() -> list[EntryPoint]:
    """Entry points of the installed plugins, in the order of their names.

    The environment variable ``TSDISTILL_PLUGINS`` (entry-point names, separated by commas) limits them;
    set and empty, it leaves none.
    """
    entries = sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: (entry.name, entry.value))
    allowed = os.environ.get(ENVIRONMENT)
    if allowed is None:
        return entries
    wanted = {name.strip() for name in allowed.split(",")}
    return [entry for entry in entries if entry.name in wanted]


def commands() -> dict[str, EntryPoint]:
    """Extra commands of the command line, by name; nothing is imported until ``EntryPoint.load`` is called.

    When two packages bring the same name, the first in the order of their entry points is taken.
    """
    found: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=COMMANDS), key=lambda entry: (entry.name, entry.value)):
        found.setdefault(entry.name, entry)
    return found


def _collector(taken: dict[str, Any]) -> Callable[[str, Any], None]:
    def register(name: str, thing: Any) -> None:
        if not isinstance(name, str) or not name:
            raise TypeError(f"register() takes a name first, not {name!r}")
        if name in taken:
            raise ValueError(f"it registers {name!r} twice")
        taken[name] = thing

    return register


def _title(entry: EntryPoint) -> str:
    package = f" of {entry.dist.name} {entry.dist.version}" if entry.dist else ""
    return f"plugin {entry.name!r}{package}"


def _warn(title: str, error: Exception) -> None:
    text = " ".join(str(error).split())
    _log.warning("tsdistill goes on without %s: %s: %s", title, type(error).__name__, text)


@cache
def registry() -> Registry:
    """The registry of this process."""
    return Registry()


def get(kind: str, name: str) -> Any:
    """The registered thing of that kind and name (see `Registry.get`)."""
    return registry().get(kind, name)


def names(kind: str) -> list[str]:
    """The registered names of a kind, sorted (see `Registry.names`)."""
    return registry().names(kind)


def items(kind: str) -> dict[str, Any]:
    """Everything registered of a kind, by name (see `Registry.items`)."""
    return registry().items(kind)


def origin(kind: str, name: str) -> str:
    """Who registered that name (see `Registry.origin`)."""
    return registry().origin(kind, name)
