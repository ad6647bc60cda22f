"""The results behind the toolkit, runnable (Y. Tian, arXiv 1703.00560 and 1909.13458).

What needs PyTorch is imported when it is asked for, so that naming the experiments costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tsdistill.theory.conditions.found import Conditions
from tsdistill.theory.experiment import EXPERIMENTS, Context, Experiment, experiment, lab
from tsdistill.theory.outcome import Claim, Outcome, Table
from tsdistill.theory.settings import Settings

if TYPE_CHECKING:
    from tsdistill.theory.conditions.checking import lab_check as lab_check

__all__ = [
    "EXPERIMENTS",
    "Claim",
    "Conditions",
    "Context",
    "Experiment",
    "Outcome",
    "Settings",
    "Table",
    "experiment",
    "lab",
    "lab_check",
]


def __getattr__(name: str) -> object:
    if name != "lab_check":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tsdistill.theory.conditions.checking import lab_check

    return lab_check
