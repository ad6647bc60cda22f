"""The settings of an experiment as options of the command line."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tsdistill.cli.field_options import Decorator, field_option
from tsdistill.lab import Experiment
from tsdistill.options.option_fields import Known, known_fields

_METAVARS = {int: "N", float: "X"}
_SHARED = ("seed", "device", "dtype")
"""Settings of all experiments, which are listed last."""


def settings_options(experiment: Experiment) -> list[Decorator]:
    """One option for each field of an experiment's settings, its own fields first."""
    fields = sorted(known_fields(experiment.settings).values(), key=lambda known: known.name in _SHARED)
    return [field_option(_on_command_line(known, experiment)) for known in fields]


def _on_command_line(known: Known, experiment: Experiment) -> Known:
    """The field with a placeholder, and its default and its value under ``--quick`` in its help."""
    kind = known.scalars[0]
    metavar = _METAVARS.get(kind, "NAME")
    values = _words(known.default)
    if experiment.quick.get(known.name, known.default) != known.default:
        values += f"; with --quick {_words(experiment.quick[known.name])}"
    shown = replace(
        known.field,
        metavar=f"{metavar},{metavar},..." if known.several else metavar,
        form="switch" if kind is bool else "",
        help=known.field.help + (f" [{values}]" if values else ""),
    )
    return replace(known, default=None, field=shown)


def _words(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_words, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)
