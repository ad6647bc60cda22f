"""Figures of the experiments, one module for each, and the files of outcomes."""

from tsdistill.lab.figures.outcome_files import SavedOutcome, figures, read_outcome, save_outcome
from tsdistill.lab.figures.terminal_tables import claims_table, outcome_table, verdict

__all__ = [
    "SavedOutcome",
    "claims_table",
    "figures",
    "outcome_table",
    "read_outcome",
    "save_outcome",
    "verdict",
]
