"""All that a plugin imports of tsdistill: the marker of hooks, the exception, protocols and data types.

The names are listed in ``plugin_api.pyi`` and imported when they are first asked for. What is not here may
move between versions.
"""

from __future__ import annotations

from tsdistill.lazy_names import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
