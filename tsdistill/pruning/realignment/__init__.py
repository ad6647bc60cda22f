"""Surviving nodes are fitted back, in closed form, to what they were in the dense model."""

from tsdistill.pruning.realignment.gauss_newton import TURNS
from tsdistill.pruning.realignment.output_error import ROUNDING, Outputs
from tsdistill.pruning.realignment.reconstruction import Realigned, realign

__all__ = ["ROUNDING", "TURNS", "Outputs", "Realigned", "realign"]
