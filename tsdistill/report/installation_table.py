"""An installation as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from tsdistill.installation import Installation
from tsdistill.plugins.manager import PluginSummary
from tsdistill.printable import printable
from tsdistill.report.numbers import size
from tsdistill.report.table_layout import table

_LONGEST = 200
"""Characters of a variable's value."""


def installation_table(here: Installation, plugins: Sequence[PluginSummary]) -> Group:
    """What an installation has, and what it lacks.

    Args:
        here: the installation.
        plugins: those that are not built in.
    """
    machine = table("Machine", "<", "<")
    machine.add_row("system", here.system)
    machine.add_row("devices", ", ".join(here.devices))
    machine.add_row("threads", str(here.threads))
    room = "" if here.free is None else f", {size(here.free)} free"
    machine.add_row("weights from the hub", f"{here.cache}{room}")
    for name, value in here.variables.items():
        machine.add_row(name, printable(value, _LONGEST))
    packages = table("Packages", "<", "<")
    for name, version in here.packages.items():
        packages.add_row(name, version or Text("missing", style="bold"))
    extras = table("Extras", "<", "<")
    for name, lacking in here.extras.items():
        way_out = f"lacks {', '.join(lacking)}: pip install tsdistill[{name}]"
        extras.add_row(name, way_out if lacking else "complete")
    parts: list[RenderableType] = [machine, Text(), packages, Text(), extras]
    if plugins:
        others = table("Plugins", "<", "<")
        for each in plugins:
            kinds = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in each.names.items())
            others.add_row(each.title, each.problem or kinds)
        parts += [Text(), others]
    return Group(*parts)
