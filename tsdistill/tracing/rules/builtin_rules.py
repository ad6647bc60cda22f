"""The rules that come with the toolkit, registered as a plugin's are."""

from __future__ import annotations

from tsdistill.plugins import Register, hookimpl
from tsdistill.tracing.rules import (
    contraction,
    elementwise,
    index_tables,
    movement,
    normalisation,
    recurrent,
    reduction,
    spatial,
)

_FAMILIES = (
    movement,
    index_tables,
    contraction,
    normalisation,
    reduction,
    spatial,
    recurrent,
    elementwise,
)


@hookimpl
def register_operator_rules(register: Register) -> None:
    """Register every family's rules; a name that two of them have is the later one's."""
    for name, rule in {name: rule for family in _FAMILIES for name, rule in family.RULES.items()}.items():
        register(name, rule)
