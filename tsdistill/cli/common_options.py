"""What every command takes: ``--config``, ``--plugin`` and ``--debug``."""

from __future__ import annotations

import logging
import os
import warnings

import click

from tsdistill.cli.config_file import config_option

DEBUG = "TSDISTILL_DEBUG"


def debug_mode() -> bool:
    """Whether tracebacks are shown and warnings of other libraries are let through."""
    return os.environ.get(DEBUG, "") not in ("", "0")


def show_all() -> None:
    """Let through what is written down of failures that are survived, and warnings of other libraries."""
    warnings.simplefilter("default")
    logging.getLogger("tsdistill").setLevel(logging.DEBUG)


def with_common_options(command: click.Command) -> click.Command:
    """Add the options that every command takes to one that is about to run."""
    names = {name for parameter in command.params for name in parameter.opts}
    command.params += [option for option in _OPTIONS if not names & {*option.opts}]
    return command


def _load_plugins(ctx: click.Context, param: click.Parameter, places: tuple[str, ...]) -> None:
    """Load the plugins that are named, before the command runs."""
    if places:
        from tsdistill.plugins import load_plugin

        for place in places:
            load_plugin(place)


def _show_tracebacks(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    """Set the environment variable, which processes that this one starts read too."""
    if wanted:
        os.environ[DEBUG] = "1"
        show_all()


_OPTIONS = (
    config_option(),
    click.Option(
        ["--plugin"],
        multiple=True,
        metavar="FILE",
        expose_value=False,
        callback=_load_plugins,
        help="Load a plugin from FILE.py, a folder or a module's name; its code is executed. Give it again "
        "for more.",
    ),
    click.Option(
        ["--debug"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_show_tracebacks,
        help="Show the traceback of whatever fails.",
    ),
)
