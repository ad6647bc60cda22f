"""From a specification to a module: which source builds it, and with what weights."""

from __future__ import annotations

from contextlib import nullcontext

import torch

from tsdistill import plugins
from tsdistill.errors import TsdistillError
from tsdistill.models.sources.specs import Built, ModelSource

KIND = "model source"
OWN_CODE = "python"


def build(spec: str, *, weights: bool) -> Built:
    """Build ``SOURCE:NAME[,key=value...]``, ``path/to/file.py:factory`` or ``package.module:factory``.

    With ``weights`` false nothing is fetched, the values are arbitrary and PyTorch's global random numbers
    are left as they were.

    Raises:
        TsdistillError: the specification names nothing that can be built.
    """
    prefix, colon, rest = spec.partition(":")
    if not colon:
        raise TsdistillError(
            f"{spec}: neither a file nor timm:NAME, torchvision:NAME, hf:FOLDER, file.py:factory, "
            "package.module:factory"
        )
    sources: dict[str, ModelSource] = plugins.items(KIND)
    named = prefix in sources and prefix != OWN_CODE
    source = sources[prefix] if named else sources[OWN_CODE]
    with nullcontext() if weights else torch.random.fork_rng(devices=[]):
        built = source(rest if named else spec, weights=weights)
    built.model.eval()
    return built


def build_empty(spec: str) -> Built:
    """Like `build` without weights, on the ``meta`` device: shapes only, no memory.

    Raises:
        TsdistillError: as `build`; also for own code that does not build on the ``meta`` device.
    """
    with torch.device("meta"):
        return build(spec, weights=False)
