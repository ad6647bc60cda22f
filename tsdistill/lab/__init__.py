"""The results that the toolkit is built on, as experiments (Y. Tian, arXiv 1703.00560 and 1909.13458).

`run` runs an experiment by its name; `check` measures how far the conditions of the theorems hold for a
student and its teacher. Modules that need PyTorch are imported on first use, so that listing the experiments
is quick.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tsdistill.lab.experiment import Context, Experiment, Settings, experiment, run
from tsdistill.lab.experiments import EXPERIMENTS
from tsdistill.lab.results import Claim, Conditions, Outcome, Table
from tsdistill.runtime.progress import Progress

if TYPE_CHECKING:
    from tsdistill.lab.conditions.condition_check import check as check

__all__ = [
    "EXPERIMENTS",
    "Claim",
    "Conditions",
    "Context",
    "Experiment",
    "Outcome",
    "Settings",
    "Table",
    "check",
    "experiment",
    "run",
]


def __getattr__(name: str) -> object:
    if name != "check":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tsdistill.lab.conditions.condition_check import check

    return check


class _CallableModule(ModuleType):
    """The package as a callable: the deprecated call ``tsdistill.lab(NAME, ...)`` of version 0.1."""

    def __call__(
        self,
        name: str,
        *,
        quick: bool = False,
        keep: str | Path | None = None,
        tell: Progress | None = None,
        **settings: Any,
    ) -> Outcome:
        """`run` with the settings as keywords."""
        warnings.warn(
            "tsdistill.lab(NAME, ...) is deprecated: call tsdistill.lab.run(NAME, settings={...})",
            DeprecationWarning,
            stacklevel=2,
        )
        return run(name, quick=quick, keep=keep, tell=tell, settings=settings)


sys.modules[__name__].__class__ = _CallableModule
