"""``tsdistill plugins``: what each hook offers and where it comes from."""

from __future__ import annotations

import inspect
from dataclasses import asdict
from functools import partial

import click

from tsdistill.cli import output
from tsdistill.cli.command import Command
from tsdistill.cli.shared_options import json_option
from tsdistill.plugins.hookspecs import LazyCommand


@click.command(
    "plugins",
    cls=Command,
    examples=(
        ("tsdistill plugins", "what there is"),
        ("tsdistill plugins --json -", "the same for machines"),
        ("TSDISTILL_PLUGINS= tsdistill plugins", "the toolkit's own alone"),
    ),
)
@json_option("the list")
def command(json_file: str | None) -> None:
    """List what each hook offers (the name, the module it comes from and what it is), then every plugin
    with what it gave.

    The environment variable TSDISTILL_PLUGINS (names of entry points, separated by commas) limits which
    installed plugins load; set and empty, none does.
    """
    output.check(output.Output("--json", json_file))
    from tsdistill import plugins

    registered, loaded = offers(), plugins.summaries()
    if json_file:
        output.write_json(json_file, {**registered, "plugins": [asdict(each) for each in loaded]})
    if json_file != output.STDOUT:
        from tsdistill.report.tables import offers_table, plugins_table

        output.console().print(offers_table(registered, helps()))
        if loaded:
            output.console().print(plugins_table(loaded))


def offers() -> dict[str, dict[str, str]]:
    """Per kind of plugin the registered names, each with the module it comes from."""
    from tsdistill import plugins

    return {
        kind: {name: _origin(thing) for name, thing in sorted(plugins.items(kind).items())}
        for kind in plugins.KINDS
    }


def helps() -> dict[str, dict[str, str]]:
    """Per kind of plugin what each registered thing says of itself: its ``help``, or its docstring's first
    paragraph; nothing where it says nothing."""
    from tsdistill import plugins

    return {
        kind: {name: _help(thing) for name, thing in plugins.items(kind).items()} for kind in plugins.KINDS
    }


def _help(thing: object) -> str:
    thing = _inner(thing)
    text = getattr(thing, "help", None) or inspect.getdoc(thing) or ""
    return " ".join(str(text).strip().partition("\n\n")[0].split()).replace("``", "")


def _origin(thing: object) -> str:
    thing = _inner(thing)
    if isinstance(thing, LazyCommand):
        return thing.place.partition(":")[0]
    module = getattr(thing, "__module__", None) or type(thing).__module__
    return str(module)


def _inner(thing: object) -> object:
    """The function that partial objects wrap, or the thing itself."""
    while isinstance(thing, partial):
        thing = thing.func
    return thing
