"""Observing two models at once: moments, metrics, matching, strength, and the report."""

from tsdistill.alignment.analysis import analyze
from tsdistill.alignment.checkpoint_series import analyze_training
from tsdistill.alignment.history import AlignmentHistory, GroupHistory
from tsdistill.alignment.predicted_cuts import PredictedCut, PredictedCuts
from tsdistill.alignment.report import AlignmentReport, GroupReport
from tsdistill.alignment.thresholds import Thresholds
from tsdistill.statistics.moments import Moments

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
