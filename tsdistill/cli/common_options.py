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
    common = (config_option(), plugin_option(), debug_option())
    command.params += [option for option in common if not names & {*option.opts}]
    return command


def plugin_option(*, eager: bool = False) -> click.Option:
    """The option ``--plugin``, which loads the plugins that it names before the command runs.

    Args:
        eager: load them before ``--help`` is shown.
    """

    def load(_ctx: click.Context, _param: click.Parameter, places: tuple[str, ...]) -> None:
        if places:
            from tsdistill.plugins import load_plugin

            for place in places:
                load_plugin(place)

    text = (
        "Load a plugin from FILE.py, a folder or a module's name; its code is executed. Give it again for "
        "more."
    )
    return click.Option(
        ["--plugin"],
        multiple=True,
        metavar="FILE",
        is_eager=eager,
        expose_value=False,
        callback=load,
        help=text,
    )


def debug_option() -> click.Option:
    """The option ``--debug``: it sets the environment variable, which processes that this one starts read
    too."""

    def show(_ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
        if wanted:
            os.environ[DEBUG] = "1"
            show_all()

    text = "Show the traceback of whatever fails."
    return click.Option(
        ["--debug"], is_flag=True, is_eager=True, expose_value=False, callback=show, help=text
    )
