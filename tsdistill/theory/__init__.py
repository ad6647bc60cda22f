"""The results behind the toolkit, runnable (Y. Tian, arXiv 1703.00560 and 1909.13458)."""

from tsdistill.theory.experiment import EXPERIMENTS, Context, Experiment, experiment, lab
from tsdistill.theory.outcome import Claim, Outcome, Table
from tsdistill.theory.settings import Settings

__all__ = [
    "EXPERIMENTS",
    "Claim",
    "Context",
    "Experiment",
    "Outcome",
    "Settings",
    "Table",
    "experiment",
    "lab",
]
