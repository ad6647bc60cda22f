"""Find which nodes of a network carry what it has learnt, cut the rest, keep a model that loads again.

The public names are listed in ``__init__.pyi`` and imported when they are first asked for, so that importing
this package costs nothing.
"""

from __future__ import annotations

from tsdistill.lazy_names import attach
from tsdistill.version import __version__ as __version__

__getattr__, __dir__, __all__ = attach(
    __name__, __file__, {"Outcome": "tsdistill.lab.Outcome", "lab_check": "tsdistill.lab.check"}
)
