"""What the experiments of the lab look like: a module each that draws it, and how outcomes are written."""

from tsdistill.lab.figures.outcome_files import Saved, figures, read_outcome, save_outcome
from tsdistill.lab.figures.terminal_tables import claims_table, outcome_table, verdict

__all__ = [
    "Saved",
    "claims_table",
    "figures",
    "outcome_table",
    "read_outcome",
    "save_outcome",
    "verdict",
]
