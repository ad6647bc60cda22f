"""The former name of `tsdistill.lab.figures`; it works for one more version."""

from __future__ import annotations

import warnings
from importlib import import_module


def __getattr__(name: str) -> object:
    value = getattr(import_module("tsdistill.lab.figures"), name)
    warnings.warn(f"use tsdistill.lab.figures.{name}", DeprecationWarning, stacklevel=2)
    return value
