"""Hooks for plugins and the look-up by name of what they and the built-ins register."""

from tsdistill.plugins.hookspecs import LazyCommand, Register, hookimpl
from tsdistill.plugins.manager import (
    BUILTINS,
    KINDS,
    PluginSummary,
    Registry,
    generation,
    get,
    items,
    load_plugin,
    names,
    origin,
    summaries,
)
from tsdistill.plugins.named_object import NamedObject, name_of, names_of

__all__ = [
    "BUILTINS",
    "KINDS",
    "LazyCommand",
    "NamedObject",
    "PluginSummary",
    "Register",
    "Registry",
    "generation",
    "get",
    "hookimpl",
    "items",
    "load_plugin",
    "name_of",
    "names",
    "names_of",
    "origin",
    "summaries",
]
