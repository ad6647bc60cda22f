"""Options that say how much is kept and which nodes may leave, and how they reach the Python API."""

from __future__ import annotations

from typing import Any

from tsdistill.cli.command import option, options
from tsdistill.cli.field_options import collected, options_of
from tsdistill.cli.option_types import NAMED
from tsdistill.errors import TsdistillError
from tsdistill.options import RealignOptions, SelectionOptions
from tsdistill.options.option_fields import flag, known_fields
from tsdistill.options.pruning_options import BUDGETS

_HELP = (
    "MACs that are kept: a part (0.5, 50%) or an amount (1.2G).",
    "Parameters that are kept: a part, or an amount (5M).",
    "Prunable nodes that are kept: a part, or an amount (1200).",
    "Time of a forward pass that is kept, measured on this device: a part, or an amount (10ms).",
    "Peak memory of a forward pass that is kept: a part, or an amount (200MB).",
)

selection_options = options(
    *(
        option("Budget", f"--{name}", metavar="B", help=text)
        for name, text in zip(BUDGETS, _HELP, strict=True)
    ),
    option(
        "Budget",
        "--budget",
        type=NAMED,
        metavar="NAME=VALUE",
        help="Any cost that is kept, as a plugin registers it (see `tsdistill plugins`).",
    ),
    option("Budget", "--lossless", is_flag=True, help="Remove only what leaves the function as it is."),
    *options_of(SelectionOptions),
)
"""The budgets, the limits of groups and what selection goes by."""

realignment_options = options(*options_of(RealignOptions))
"""What is done about the nodes that remain, and in how many rounds."""


def budget(params: dict[str, Any]) -> dict[str, Any]:
    """The budget that is given, as `tsdistill.prune` takes it: by the name of its cost, or ``lossless``."""
    named = {name: params[name] for name in (*BUDGETS, "lossless") if params.get(name)}
    return {**(params.get("budget") or {}), **named}


def selection(params: dict[str, Any]) -> SelectionOptions:
    """Which nodes may leave, and how they are ordered."""
    return collected(SelectionOptions, params)


def realignment(params: dict[str, Any]) -> RealignOptions:
    """What is done about the nodes that stay.

    Raises:
        TsdistillError: re-alignment without data, or where nothing changes.
    """
    if params["realign"] and params["data"] is None:
        raise TsdistillError("--realign needs the data that the model is for; give --data")
    if params["lossless"] and (params["realign"] or params["rounds"]):
        other = "--realign" if params["realign"] else "--rounds"
        raise TsdistillError(
            f"--lossless and {other} do not go together: what stays is as it was, nothing is re-aligned; "
            "leave one out"
        )
    return collected(RealignOptions, params)


def options_of_a_plan(params: dict[str, Any]) -> list[str]:
    """Which options are given that make a plan, in the words of the command line."""
    limits = [name for name in known_fields(SelectionOptions) if name not in ("heads", "keep_strong")]
    return [flag(name) for name in (*BUDGETS, "budget", "lossless", *limits) if params.get(name)]
