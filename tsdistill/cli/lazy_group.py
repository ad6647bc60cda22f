"""Groups of commands that are imported when they are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click

from tsdistill.cli.common_options import with_common_options
from tsdistill.errors import TsdistillError, cause_of
from tsdistill.options.option_fields import nearest


@dataclass(frozen=True)
class Entry:
    """A command of a `LazyGroup`.

    Attributes:
        help: its line in the group's ``--help``.
        load: imports it, or makes it.
    """

    help: str
    load: Callable[[], click.Command]


class LazyGroup(click.Group):
    """Commands by name; the group's ``--help`` imports none of them.

    Args:
        sections: heading of ``--help`` -> what gives the commands under it. A command is looked for in the
            first section, then in the next one.
        known: the rest is what `click.Group` takes.
    """

    def __init__(
        self, *args: Any, sections: Mapping[str, Callable[[], Mapping[str, Entry]]], **known: Any
    ) -> None:
        super().__init__(*args, **known)
        self._sections = sections

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The names of all commands, in the order of ``--help``."""
        return [name for entries in self._sections.values() for name in entries()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import and return one command; ``None`` where there is none of that name.

        Raises:
            TsdistillError: a plugin's command cannot be imported, or is none.
        """
        for entries in self._sections.values():
            if entry := entries().get(cmd_name):
                return with_common_options(entry.load())
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is called, and its arguments.

        Raises:
            click.UsageError: there is none of that name; the message says the nearest.
        """
        names = self.list_commands(ctx)
        if args[0] not in names and not args[0].startswith("-"):
            ctx.fail(f"there is no command {args[0]!r}; {nearest(args[0], names)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands under their headings, with a line each."""
        for heading, entries in self._sections.items():
            lines = [(name, entry.help) for name, entry in entries().items()]
            if lines:
                with formatter.section(heading):
                    formatter.write_dl(lines)


def imported(place: str, what: str) -> click.Command:
    """The command at ``package.module:attribute``.

    Args:
        place: where it is.
        what: the command in words, for messages.

    Raises:
        TsdistillError: it cannot be imported, or is no click command.
    """
    module, _, attribute = place.partition(":")
    try:
        command = getattr(import_module(module), attribute)
    except Exception as error:  # a plugin's module may raise anything
        raise TsdistillError(f"{what} ({place}) cannot be imported: {cause_of(error)}") from error
    if not isinstance(command, click.Command):
        raise TsdistillError(f"{what} ({place}) is not a click command")
    return command
