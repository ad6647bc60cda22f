"""How a long pass over the data says how far it is (see `tsdistill.runtime.progress`)."""

from __future__ import annotations

from tsdistill.runtime.progress import Progress, begin, expect, prefixed

__all__ = ["Progress", "begin", "expect", "prefixed"]
