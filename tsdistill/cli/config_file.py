"""``--config FILE``: options of a command in a YAML, JSON or TOML file; the command line comes before it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import click

from tsdistill.errors import TsdistillError
from tsdistill.imported_code import CATALOGS
from tsdistill.options.option_fields import known_fields, nearest
from tsdistill.options.option_files import read_options
from tsdistill.printable import printable

CONFIG = "config"

_CODE_OPTIONS = frozenset(("plugin", "trust"))

_CODE = re.compile(r"\.py\b")
"""A Python file, as in ``file.py:factory``."""

_FILE_OPTIONS = "tsdistill.file_options"
"""Where the context keeps the options of `Command.of_file` that the file has."""


def config_option() -> click.Option:
    """The option ``--config``."""
    return click.Option(
        [f"--{CONFIG}"],
        metavar="FILE",
        is_eager=True,
        expose_value=False,
        callback=read_config,
        help="Options from a .yaml, .json or .toml file, by name; the command line comes before them.",
    )


def file_options() -> dict[str, Any]:
    """The options of `Command.of_file` that the file of ``--config`` has, checked; empty without one."""
    return dict(click.get_current_context().meta.get(_FILE_OPTIONS, {}))


def read_config(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    """Make the options in a file the defaults of those of the command line.

    Args:
        ctx: the command's context.
        param: the option ``--config``.
        value: the path of the file; ``None`` without one.

    Raises:
        TsdistillError: the file cannot be read, or has an option that does not exist or a value that is not
            taken.
    """
    if value is None:
        return
    command = ctx.command
    of_file = getattr(command, "of_file", None)
    own = {} if of_file is None else known_fields(of_file)
    keys = _keys(each for each in command.params if each is not param)
    defaults: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for key, item in read_options(value).items():
        name = key.lstrip("-").replace("-", "_")
        _check_runs_no_code(name, item, value)
        if name in own:
            others[name] = item
        elif name not in keys:
            way = nearest(name, dict.fromkeys([*own, *keys]))
            raise TsdistillError(f"{value}: there is no option {printable(key, 60)!r}; {way}")
        elif item is not None:
            defaults[str(keys[name].name)] = _value(ctx, keys[name], item, f"{value}: {name}")
    if of_file is not None:
        ctx.meta[_FILE_OPTIONS] = {name: getattr(of_file.of(others, value), name) for name in others}
    ctx.default_map = {**(ctx.default_map or {}), **defaults}


def _check_runs_no_code(name: str, item: Any, path: str) -> None:
    """Refuse an option that would run code which the file names: only the command line may ask for that.

    Args:
        name: the option's key.
        item: its value in the file.
        path: the file, for messages.

    Raises:
        TsdistillError: the option is one of `_CODE_OPTIONS`, or its value names a Python file or module.
    """
    texts = [text for text in (item if isinstance(item, list) else [item]) if isinstance(text, str)]
    names_code = any(_CODE.search(text) for text in texts)
    if name.endswith("arch"):
        names_code |= any(text.partition(":")[0] not in (*CATALOGS, "hf") for text in texts)
    if (name in _CODE_OPTIONS and item) or names_code:
        raise TsdistillError(
            f"{path}: {name} would run code that the file names; give it on the command line (--"
            f"{name.replace('_', '-')})"
        )


def _keys(params: Iterable[click.Parameter]) -> dict[str, click.Option]:
    """Options by the keys that name them in a file: their long names on the command line."""
    options: dict[str, click.Option] = {}
    for param in params:
        if isinstance(param, click.Option):
            for flag in param.opts:
                if flag.startswith("--"):
                    options[flag[2:].replace("-", "_")] = param
    return options


def _value(ctx: click.Context, option: click.Option, item: Any, where: str) -> Any:
    """A value out of a file, as the command line would have it; it is checked here, so that the message
    names the file."""
    if option.is_flag != isinstance(item, bool):
        wanted = "true or false" if option.is_flag else "a value"
        raise TsdistillError(f"{where} takes {wanted}, not {printable(repr(item), 60)}")
    if isinstance(item, bool):
        return item
    pairs = [f"{name}={value}" for name, value in item.items()] if isinstance(item, Mapping) else None
    if option.multiple:
        text: Any = pairs or (list(map(str, item)) if isinstance(item, list) else [str(item)])
    else:
        text = ",".join(pairs or map(str, item)) if isinstance(item, list | Mapping) else str(item)
    try:
        option.type_cast_value(ctx, text)
    except click.UsageError as error:
        raise TsdistillError(f"{where}: {error.message}") from error
    return text
