"""A command: its options under headings and examples in ``--help``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import click

from tsdistill.options.option_fields import OptionSet

F = TypeVar("F", bound=Callable[..., Any])

SECTIONS = (
    "Budget", "What may be cut", "Re-alignment", "Plan", "Length", "Loss", "Optimizer", "Outputs and labels",
    "Data", "Teacher", "Comparison of nodes", "Model", "Hardware", "Output", "Other",
)  # fmt: skip
"""Headings of ``--help``, in order; others stand before them."""


class Option(click.Option):
    """An option, with the heading that it stands under in ``--help``.

    Args:
        section: that heading.
        known: the rest is what `click.Option` takes.
    """

    def __init__(self, *args: Any, section: str = "Other", **known: Any) -> None:
        super().__init__(*args, **known)
        self.section = section


class Decorator(Protocol):
    """Adds options to the function of a command."""

    def __call__(self, function: F, /) -> F:
        """The function with the options."""


def option(section: str, *names: str, **known: Any) -> Decorator:
    """`click.option` of an `Option`; ``known`` is what `click.Option` takes."""
    return click.option(*names, cls=Option, section=section, **known)


def options(*each: Decorator) -> Decorator:
    """Several options as one decorator, in their order."""

    def add(function: F, /) -> F:
        for decorator in reversed(each):
            function = decorator(function)
        return function

    return add


class Command(click.Command):
    """A command of tsdistill.

    Args:
        examples: command lines with what each does, for ``--help``.
        of_file: options that the file of ``--config`` may have and that the command asks for by
            `tsdistill.cli.config_file.file_options`, because others than flags come before them.
        known: the rest is what `click.Command` takes.
    """

    def __init__(
        self,
        *args: Any,
        examples: Sequence[tuple[str, str]] = (),
        of_file: type[OptionSet] | None = None,
        **known: Any,
    ) -> None:
        super().__init__(*args, **known)
        self.examples, self.of_file = tuple(examples), of_file

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and record[1]:
                sections.setdefault(getattr(param, "section", "Other"), []).append(record)
        known = {name: place for place, name in enumerate(SECTIONS)}
        for name in sorted(sections, key=lambda name: known.get(name, -1)):
            with formatter.section(name):
                formatter.write_dl(sections[name])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, then the epilog."""
        if self.examples:
            with formatter.section("Examples"):
                for line, what in self.examples:
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")
                    formatter.write(f"{'':>{formatter.current_indent}}    {what}\n")
        super().format_epilog(ctx, formatter)
