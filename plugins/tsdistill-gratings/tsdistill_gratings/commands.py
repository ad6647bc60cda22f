"""The hook of commands, in a module that imports nothing large: ``tsdistill --help`` imports it."""

from __future__ import annotations

from tsdistill.plugin_api import LazyCommand, Register, hookimpl


@hookimpl
def register_commands(register: Register) -> None:
    """Register ``tsdistill layers``."""
    register("layers", LazyCommand("tsdistill_gratings.command:layers", "Count parameters by type of layer."))
