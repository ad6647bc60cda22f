"""Surviving nodes are fitted back, in closed form, to what they were in the dense model."""

from tsdistill.pruning.realigning.jointly import TURNS
from tsdistill.pruning.realigning.outputs import ROUNDING, Outputs
from tsdistill.pruning.realigning.realign import Realigned, realign

__all__ = ["ROUNDING", "TURNS", "Outputs", "Realigned", "realign"]
