"""What is registered by name: the built-ins, the installed plugins, and the plugins that the user names.

The built-ins are modules named here by strings; they are imported when something of their kind is first
asked for and go through the same hooks as everybody else's.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import logging
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from tsdistill.errors import TsdistillError, cause_of
from tsdistill.imported_code import import_code
from tsdistill.plugins import hookspecs
from tsdistill.plugins.hookspecs import LazyCommand
from tsdistill.plugins.named_object import NamedObject

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
    "importance": "register_importance",
    "cost": "register_costs",
    "operator rule": "register_operator_rules",
    "command": "register_commands",
    "exporter": "register_exporters",
}
KINDS = tuple(_HOOKS)

BUILTINS: Mapping[str, tuple[str, ...]] = {
    "alignment metric": ("tsdistill.alignment.metrics.builtin_alignment_metrics",),
    "augmentation": ("tsdistill.augmentation.strategies",),
    "data source": ("tsdistill.data.builtin_data",),
    "model source": ("tsdistill.models.sources.builtin_sources",),
    "evaluation metric": ("tsdistill.evaluation.builtin_evaluation_metrics",),
    "loss": ("tsdistill.distillation.losses.builtin_losses",),
    "importance": ("tsdistill.pruning.selection.builtin_importances",),
    "cost": ("tsdistill.pruning.selection.builtin_costs",),
    "operator rule": ("tsdistill.tracing.rules.builtin_rules",),
    "command": ("tsdistill.cli.builtin_commands",),
    "exporter": (
        "tsdistill.exporting.onnx_graph",
        "tsdistill.exporting.torch_export",
        "tsdistill.exporting.torchscript",
        "tsdistill.exporting.python_source",
        "tsdistill.exporting.pretrained",
    ),
}

_ACCEPTED: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "importance": (
        lambda thing: callable(thing) or callable(getattr(thing, "orders", None)),
        "it is neither callable nor has a method orders",
    ),
    "command": (
        lambda thing: isinstance(thing, LazyCommand) or callable(getattr(thing, "make_context", None)),
        "it is neither a LazyCommand nor a click command",
    ),
    "exporter": (
        lambda thing: not isinstance(thing, type) and callable(getattr(thing, "write", None)),
        "it is no object of a class derived from Exporter",
    ),
}
"""What can be registered of a kind, and what is wrong with anything else; of other kinds, anything can."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PluginSummary:
    """What a plugin gave.

    Attributes:
        title: ``"plugin 'x' of package 1.0"``, or ``"plugin file.py"``.
        names: kind -> what it registers of it; kinds of which there is nothing are left out.
        problem: why it gave nothing, or less than it has; ``None`` without one.
    """

    title: str
    names: Mapping[str, tuple[str, ...]]
    problem: str | None = None


class Registry:
    """Things by kind and name, collected from hooks when a kind is first asked for.

    Args:
        builtins: per kind the names of the modules that implement its hook.

    Attributes:
        generation: how many plugins were loaded after the installed ones; what is kept of look-ups is of one.
    """

    def __init__(self, builtins: Mapping[str, tuple[str, ...]] = BUILTINS) -> None:
        self._builtins = builtins
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._kinds: dict[str, dict[str, Any]] = {}
        self._owners: dict[str, dict[str, str]] = {}
        self.generation = 0
        self._loaded: set[str] = set()
        self._problems: dict[str, str] = {}
        self._collected: dict[tuple[str, str], dict[str, Any]] = {}

    def items(self, kind: str) -> dict[str, Any]:
        """Everything of a kind, by name.

        Raises:
            TsdistillError: the kind is unknown, or two plugins register the same name.
        """
        if kind not in _HOOKS:
            raise TsdistillError(f"there is no kind {kind!r} of plugin; kinds are {', '.join(KINDS)}")
        if kind not in self._kinds:
            self._load_builtins(kind)
            self._load_third_party(COMMANDS)
            if kind != "command":
                self._load_third_party(ENTRY_POINTS)
            self._kinds[kind] = self._collect(kind)
        return dict(self._kinds[kind])

    def names(self, kind: str) -> list[str]:
        """The names of a kind, sorted."""
        return sorted(self.items(kind))

    def get(self, kind: str, name: str) -> Any:
        """The thing of that kind and name; of a `NamedObject` the object that it is.

        Raises:
            TsdistillError: nothing has that name; the message names what comes nearest.
        """
        if isinstance(name, NamedObject):
            return name.thing
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
        if isinstance(name, NamedObject):
            return f"given as a {type(name.thing).__name__}"
        self.get(kind, name)
        owner = self._owners[kind][name]
        return "tsdistill" if owner in self._builtins.get(kind, ()) else owner

    def load(self, place: str) -> PluginSummary:
        """Load a plugin that is not installed; its code is executed.

        Args:
            place: a file ``my_metric.py``, a folder that is a package, or a module's name.

        Raises:
            TsdistillError: it cannot be imported, a hook of it raises, it registers nothing, or a name that
                is taken.
        """
        title = f"plugin {place}"
        if self._manager.has_plugin(title):
            return self._summary(title)
        module = import_code(place, title)
        if self._manager.is_registered(module):
            return self._summary(str(self._manager.get_name(module)))
        try:
            self._manager.register(module, name=title)
        except Exception as error:
            raise TsdistillError(f"{title}: {cause_of(error)}") from error
        self._kinds.clear()
        self.generation += 1
        try:
            return self._admitted(title)
        except BaseException:
            self._forget(title)
            raise

    def _admitted(self, title: str) -> PluginSummary:
        """What a plugin that was named gave; it gives something, under names of its own."""
        for kind in KINDS:
            try:
                self._from_plugin(kind, title)
            except (Exception, SystemExit) as error:
                raise TsdistillError(f"{title}: {_HOOKS[kind]}() fails: {cause_of(error)}") from error
        summary = self._summary(title)
        problem = self._misnamed(title) or ("it registers nothing" if not summary.names else None)
        if problem:
            raise TsdistillError(f"{title}: {problem}")
        for kind in summary.names:
            self.items(kind)
        return summary

    def _forget(self, title: str) -> None:
        """Take back a plugin that was refused, so that all else works and it can be loaded again, mended."""
        self._manager.unregister(name=title)
        for kind in KINDS:
            self._collected.pop((kind, title), None)
        self._kinds.clear()

    def plugins(self) -> list[PluginSummary]:
        """Every plugin that is not built in and what it gave, those that failed included."""
        self._load_third_party(ENTRY_POINTS)
        for kind in KINDS:
            self.items(kind)
        titles = [title for title, plugin in self._manager.list_name_plugin() if plugin is not None]
        own = {name for names in self._builtins.values() for name in names}
        titles = [title for title in titles if title not in own]
        return [self._summary(title) for title in dict.fromkeys((*titles, *self._problems))]

    def _summary(self, title: str) -> PluginSummary:
        kinds = {kind: tuple(sorted(self._collected.get((kind, title), {}))) for kind in KINDS}
        return PluginSummary(
            title, {kind: names for kind, names in kinds.items() if names}, self._problems.get(title)
        )

    def _load_builtins(self, kind: str) -> None:
        for name in self._builtins.get(kind, ()):
            if not self._manager.has_plugin(name):
                self._manager.register(importlib.import_module(name), name=name)

    def _load_third_party(self, group: str) -> None:
        """Import the plugins under a group of entry points, once.

        The modules of `COMMANDS` are imported by ``tsdistill --help``, those of `ENTRY_POINTS` are not.
        """
        if group in self._loaded:
            return
        self._loaded.add(group)
        self._kinds.pop("command", None)
        for entry in third_party(group):
            title = _title(entry)
            try:
                names_command = group == COMMANDS and bool(getattr(entry, "attr", None))
                plugin = _OneCommand(entry) if names_command else entry.load()
                if self._manager.is_registered(plugin):
                    continue
                self._manager.register(plugin, name=title)
            except (Exception, SystemExit) as error:
                self._warn(title, cause_of(error))
                continue
            problem = self._misnamed(title)
            if problem:
                self._warn(title, problem, "%s: %s")

    def _misnamed(self, title: str) -> str | None:
        """What is wrong with the names of a plugin's hooks: marked as one and none, or not marked."""
        plugin = self._manager.get_plugin(title)
        implemented = {caller.name for caller in self._manager.get_hookcallers(plugin) or ()}
        wrong = sorted(implemented - {*_HOOKS.values()})
        if wrong:
            near = difflib.get_close_matches(wrong[0], _HOOKS.values(), n=1, cutoff=0)[0]
            return f"there is no hook {wrong[0]}; did you mean {near}?"
        if implemented:
            return None
        named = [
            name for name, _ in inspect.getmembers(plugin, inspect.isroutine) if name.startswith("register")
        ]
        if not named:
            return f"it has no hook, so it registers nothing; hooks are {', '.join(_HOOKS.values())}"
        near = difflib.get_close_matches(named[0], _HOOKS.values(), n=1, cutoff=0)[0]
        if near == named[0]:
            return f"{named[0]} is not marked @hookimpl, so it registers nothing"
        return f"it registers nothing: {named[0]} is no hook; did you mean {near}, marked @hookimpl?"

    def _from_plugin(self, kind: str, title: str) -> dict[str, Any]:
        """What one plugin registers of a kind; its hook is called once."""
        if (kind, title) not in self._collected:
            plugin = self._manager.get_plugin(title)
            plugins = self._manager.list_name_plugin()
            others = [other for _, other in plugins if other is not None and other is not plugin]
            taken: dict[str, Any] = {}
            self._manager.subset_hook_caller(_HOOKS[kind], others)(register=_collector(kind, taken))
            self._collected[kind, title] = taken
        return self._collected[kind, title]

    def _collect(self, kind: str) -> dict[str, Any]:
        registered: dict[str, Any] = {}
        owners: dict[str, str] = {}
        for title, plugin in self._manager.list_name_plugin():
            if plugin is None:
                continue
            try:
                taken = self._from_plugin(kind, title)
            except (Exception, SystemExit) as error:
                if title in self._builtins.get(kind, ()):
                    raise
                self._collected[kind, title] = {}
                self._warn(title, cause_of(error))
                continue
            for name, thing in taken.items():
                if name in registered:
                    raise TsdistillError(
                        f"{kind} {name!r} is registered by both {owners[name]} and {title}; rename one, "
                        f"or name the plugins to load in the environment variable {ENVIRONMENT}"
                    )
                registered[name], owners[name] = thing, title
        self._owners[kind] = owners
        return registered

    def _warn(self, title: str, problem: str, line: str = "tsdistill goes on without %s: %s") -> None:
        self._problems[title] = problem
        _log.warning(line, title, problem)
        _log.debug("%s, in full", title, exc_info=sys.exc_info()[1])


def third_party(group: str = ENTRY_POINTS) -> list[EntryPoint]:
    """Entry points of the installed plugins, in the order of their names.

    The environment variable ``TSDISTILL_PLUGINS`` (entry-point names, separated by commas) limits them;
    set and empty, it leaves none.
    """
    entries = sorted(entry_points(group=group), key=lambda entry: (entry.name, entry.value))
    allowed = os.environ.get(ENVIRONMENT)
    if allowed is None:
        return entries
    wanted = {name.strip() for name in allowed.split(",")}
    return [entry for entry in entries if entry.name in wanted]


class _OneCommand:
    """The plugin that an entry point ``package.module:command`` under `COMMANDS` stands for.

    That was the way before the hook of commands; it works for one version.
    """

    def __init__(self, entry: EntryPoint) -> None:
        self._entry = entry
        text = f"{_title(entry)}: name a module with the hook register_commands under {COMMANDS}"
        warnings.warn(text, DeprecationWarning, stacklevel=2)

    @hookspecs.hookimpl
    def register_commands(self, register: Callable[[str, Any], None]) -> None:
        """Register it under the name of the entry point."""
        register(self._entry.name, LazyCommand(self._entry.value, ""))


def _collector(kind: str, taken: dict[str, Any]) -> Callable[[str, Any], None]:
    def register(name: str, thing: Any) -> None:
        if not isinstance(name, str) or not name:
            raise TypeError(f"register() takes a name first, not {name!r}")
        if name in taken:
            raise ValueError(f"it registers {name!r} twice")
        fits, fault = _ACCEPTED.get(kind, (None, ""))
        if fits is not None and not fits(thing):
            raise TypeError(f"{kind} {name!r} cannot be used: {fault}")
        taken[name] = thing

    return register


def _title(entry: EntryPoint) -> str:
    package = f" of {entry.dist.name} {entry.dist.version}" if entry.dist else ""
    return f"plugin {entry.name!r}{package}"


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


def generation() -> int:
    """Another number after every plugin that is loaded (see `Registry.generation`)."""
    return registry().generation


def load_plugin(place: str) -> PluginSummary:
    """Load a plugin from a file, a folder or a module that is not installed (see `Registry.load`)."""
    return registry().load(place)


def summaries() -> list[PluginSummary]:
    """Every plugin that is not built in and what it gave (see `Registry.plugins`)."""
    return registry().plugins()
