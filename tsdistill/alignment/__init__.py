"""Observing two models at once: moments, metrics, matching, strength, and the report."""

from tsdistill.alignment.analysis import analyze
from tsdistill.alignment.moments import Moments
from tsdistill.alignment.report import AlignmentReport, GroupReport, Thresholds

__all__ = ["AlignmentReport", "GroupReport", "Moments", "Thresholds", "analyze"]
