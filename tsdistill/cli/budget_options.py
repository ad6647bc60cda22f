"""Options that say how much is kept and which nodes may leave, and how they reach the Python API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from tsdistill.cli.option_types import Named
from tsdistill.cli.options import add_options
from tsdistill.errors import TsdistillError

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--macs", metavar="B", help="MACs that are kept: a part (0.5, 50%) or an amount (1.2G)."),
    click.option("--params", metavar="B", help="Parameters that are kept: a part, or an amount (5M)."),
    click.option("--nodes", metavar="B", help="Prunable nodes that are kept: a part, or an amount (1200)."),
    click.option(
        "--latency",
        metavar="B",
        help="Time of a forward pass that is kept, measured on this device: a part, or an amount (10ms).",
    ),
    click.option(
        "--memory",
        metavar="B",
        help="Peak memory of a forward pass that is kept: a part, or an amount (200MB).",
    ),
    click.option(
        "--budget",
        type=Named(),
        metavar="NAME=VALUE",
        help="Any cost that is kept, as a plugin registers it (see `tsdistill plugins`).",
    ),
    click.option("--lossless", is_flag=True, help="Remove only what leaves the function as it is."),
    click.option(
        "--min-nodes", type=click.IntRange(min=1), metavar="N", help="Nodes that stay in every group."
    ),
    click.option(
        "--round-to",
        type=click.IntRange(min=1),
        metavar="N",
        help="Widths that change end at a multiple of N.",
    ),
    click.option(
        "--heads",
        type=click.Choice(("score", "whole", "size")),
        default="score",
        show_default=True,
        help="What leaves an attention layer: whole heads, as much of every head, or what costs less.",
    ),
    click.option(
        "--only", multiple=True, metavar="PATTERN", help="Groups that may lose nodes, such as 'layer3.*'."
    ),
    click.option("--exclude", multiple=True, metavar="PATTERN", help="Groups that stay whole."),
    click.option(
        "--importance",
        metavar="NAME",
        help="What selects: magnitude, batchnorm-scale, taylor, fpgm, wanda, or a plugin's criterion (see "
        "`tsdistill plugins`); without it reconstruction, the toolkit's own.",
    ),
    click.option(
        "--keep-strong/--no-keep-strong",
        default=True,
        show_default=True,
        help="Whether the teacher's nodes weigh by their strength or all the same.",
    ),
)

_CUTTING = (
    click.option(
        "--realign/--no-realign",
        default=None,
        help="Whether nodes that stay are fitted back to what they were, by least squares; without either, "
        "when --data are real.",
    ),
    click.option(
        "--joint/--no-joint",
        default=True,
        help="Whether re-alignment also moves the layers of a block together; that takes most of its time.",
    ),
    click.option(
        "--rounds",
        type=click.IntRange(1, 1000),
        metavar="N",
        help="In how many rounds of observing, cutting and re-aligning; without it, by how much leaves.",
    ),
)

BUDGETS = ("macs", "params", "nodes", "latency", "memory")
"""Costs with an option of their own; others are named with --budget."""
_LIMITS = ("lossless", "min_nodes", "round_to", "only", "exclude", "importance")


def choosing_options(command: F) -> F:
    """Add the budgets, the limits of groups and what selection goes by."""
    return add_options(_OPTIONS, command)


def cutting_options(command: F) -> F:
    """Add what is done about the nodes that stay, and in how many rounds."""
    return add_options(_CUTTING, command)


def budget(given: dict[str, Any]) -> dict[str, Any]:
    """The budget that is given, as ``tsdistill.plan`` takes it."""
    return {name: given[name] for name in (*BUDGETS, "budget", "lossless") if given.get(name)}


def named_budgets(given: dict[str, Any]) -> dict[str, Any]:
    """The budgets that are given, by the names of their costs, and whether ``lossless``."""
    found = budget(given)
    return {**found.pop("budget", {}), **found}


def choosing(given: dict[str, Any]) -> dict[str, Any]:
    """What ``plan`` and ``prune_result`` take of it."""
    limits = {name: given[name] for name in _LIMITS if given[name]}
    return {**budget(given), **limits, "keep_strong": given["keep_strong"]}


def cutting(given: dict[str, Any]) -> dict[str, Any]:
    """What ``prune_result`` takes beside what ``plan`` does.

    Raises:
        TsdistillError: re-alignment without data, or where nothing changes.
    """
    if given["realign"] and given["data"] is None:
        raise TsdistillError("--realign needs the data that the model is for; give --data")
    chosen = {name: given[name] for name in ("realign", "joint", "rounds") if given[name] is not None}
    if given["lossless"] and (given["realign"] or given["rounds"]):
        other = "--realign" if given["realign"] else "--rounds"
        raise TsdistillError(
            f"--lossless and {other} do not go together: what stays is as it was, nothing is re-aligned; "
            "leave one out"
        )
    return chosen


def beside_a_plan(given: dict[str, Any]) -> list[str]:
    """Which of these options are given that make a plan, in the words of the command line."""
    return [f"--{name.replace('_', '-')}" for name in (*BUDGETS, "budget", *_LIMITS) if given.get(name)]
