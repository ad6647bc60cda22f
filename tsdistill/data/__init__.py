"""Inputs: named data sets, arrays, synthetic samples and the caller's own, as one kind of stream."""

from tsdistill.data.opener import SYNTHETIC_SAMPLES, open_data
from tsdistill.data.stream import Stream

__all__ = ["SYNTHETIC_SAMPLES", "Stream", "open_data"]
