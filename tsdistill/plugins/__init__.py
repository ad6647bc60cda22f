"""Hooks for plugins and the look-up by name of what they and the built-ins register."""

from tsdistill.plugins.hookspecs import hookimpl
from tsdistill.plugins.manager import BUILTINS, KINDS, Registry, commands, get, items, names, origin

__all__ = ["BUILTINS", "KINDS", "Registry", "commands", "get", "hookimpl", "items", "names", "origin"]
