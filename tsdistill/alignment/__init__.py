"""Observing two models at once: moments, metrics, matching, strength, and the report."""

from tsdistill.alignment.analysis import analyze
from tsdistill.alignment.history import AlignmentHistory, GroupHistory
from tsdistill.alignment.observing.moments import Moments
from tsdistill.alignment.predicted_cuts import PredictedCut, PredictedCuts
from tsdistill.alignment.report import AlignmentReport, GroupReport, Thresholds
from tsdistill.alignment.training import analyze_training

__all__ = [
    "AlignmentHistory",
    "AlignmentReport",
    "GroupHistory",
    "GroupReport",
    "Moments",
    "PredictedCut",
    "PredictedCuts",
    "Thresholds",
    "analyze",
    "analyze_training",
]
