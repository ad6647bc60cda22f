"""The hooks that a plugin of tsdistill may implement.

Each hook is handed ``register``, a callable ``register(name: str, thing: object) -> None``; docs/plugins.md
says what ``thing`` must be, and `tsdistill.plugin_api` has the types.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pluggy

PROJECT = "tsdistill"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

Register = Callable[[str, Any], None]


@dataclass(frozen=True)
class LazyCommand:
    """A command of the command line that is imported when it is called.

    Attributes:
        place: of a click command: ``"package.module:attribute"``.
        help: its line in ``tsdistill --help``.
    """

    place: str
    help: str


@hookspec
def register_alignment_metrics(register: Register) -> None:
    """Register measures of how much a student node is like a teacher node."""


@hookspec
def register_augmentations(register: Register) -> None:
    """Register strategies that make or move samples: ``strategy(x, generator) -> x``."""


@hookspec
def register_data_sources(register: Register) -> None:
    """Register where samples come from: ``source(argument, input_spec) -> Dataset`` for ``NAME:argument``."""


@hookspec
def register_model_sources(register: Register) -> None:
    """Register where models come from, for specifications ``NAME:argument``."""


@hookspec
def register_evaluation_metrics(register: Register) -> None:
    """Register figures that say how good a model is."""


@hookspec
def register_losses(register: Register) -> None:
    """Register what training makes small: ``make(**options) -> Loss``, called once for a run."""


@hookspec
def register_importance(register: Register) -> None:
    """Register selection criteria: ``importance(report, group) -> cost of losing each node [nodes]``."""


@hookspec
def register_costs(register: Register) -> None:
    """Register what a network costs and a budget can limit."""


@hookspec
def register_operator_rules(register: Register) -> None:
    """Register what an operator does to nodes: ``rule(tracer, args, kwargs, out) -> None``, by its name."""


@hookspec
def register_commands(register: Register) -> None:
    """Register commands ``tsdistill NAME``, each as a `LazyCommand` or as a click command."""


@hookspec
def register_exporters(register: Register) -> None:
    """Register what writes models in a format of files, by their suffix without the dot."""
