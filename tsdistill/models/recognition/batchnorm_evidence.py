"""Choice among networks by the agreement of their activations with their batch-norm statistics.

Every batch norm keeps the mean and variance that its input had in training. Candidates that share all names
and shapes differ in padding, in the epsilon of norms, in activations ...; the statistics of a wrong one do
not agree with its activations. Batch norms normalise by the batch while this is measured, so that the
distance of a layer is its own, and the difference between these few images and the training data does not
accumulate from layer to layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import interpolate

from tsdistill.models.info import InputSpec
from tsdistill.models.layers.layer_kind import batch_norms

CROPS = 8
"""Crops of the photograph: the batch over which a batch norm's input is measured."""

MIN_LAYERS = 8
"""Batch norms that a model must have for a decision: the t statistic of fewer layers says little."""

MIN_T = 2.5
"""Smallest t statistic of a clear difference: with 8 layers, equal candidates exceed it with probability
0.02.
"""

MIN_DIFFERENCE = 0.02
"""Smallest mean relative difference of a clear one: in a deep network a tiny difference is significant, too.
"""

_MIN_CROP = 0.3
"""Smallest side of a crop, over the shorter side of the photograph."""

_MAX_CHANNEL_DISTANCE = 1.0
"""Largest distance of one channel: a dead channel, whose distance has no bound, counts like a wrong one."""

_VARIANCE_FLOOR = 1e-3
"""What is added to variances, over the layer's median stored variance: channels that hardly vary have no
meaningful ratio of variances.
"""


@dataclass(frozen=True)
class Verdict:
    """How one candidate compares with another.

    Attributes:
        distance: the candidate's mean distance over the layers.
        other: the other's.
        share: part of the layers in which the candidate's is smaller.
        t: mean over standard error, over the layers, of the relative difference of the distances.
        clear: whether that is enough to decide.
    """

    distance: float
    other: float
    share: float
    t: float
    clear: bool


def photographs(spec: InputSpec, count: int = CROPS, seed: int = 0) -> torch.Tensor | None:
    """Random square crops of a real photograph, normalised for the model: ``[count, C, H, W]``.

    The photograph (matplotlib's sample of Grace Hopper, in the public domain) comes with a dependency.
    Synthetic images do not serve: measured with the weights of EfficientNet-Lite0, dead leaves and 1/f noise
    favour symmetric padding whether it is right or wrong. ``None`` when the picture is not there or inputs
    are no RGB images.

    Args:
        spec: how inputs look.
        count: the number of crops.
        seed: of their places and sizes.
    """
    import matplotlib
    from PIL import Image
    from torchvision.transforms.functional import pil_to_tensor

    file = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    if len(spec.size) != 3 or spec.size[0] != 3 or not file.is_file():
        return None
    with Image.open(file) as picture:
        pixels = pil_to_tensor(picture.convert("RGB")).float() / 255
    generator = torch.Generator().manual_seed(seed)
    height, width = pixels.shape[1:]
    crops = []
    for number in range(count):
        share, across, down = torch.rand(3, generator=generator).tolist()
        side = int((_MIN_CROP + (1 - _MIN_CROP) * share) * min(height, width))
        top, left = int(down * (height - side)), int(across * (width - side))
        crop = pixels[:, top : top + side, left : left + side]
        crop = interpolate(crop[None], spec.size[1:], mode="bicubic", antialias=True, align_corners=False)[0]
        crops.append(crop.flip(2) if number % 2 else crop)
    images = torch.stack(crops).clamp(0, 1)
    if spec.mean is not None and spec.std is not None:
        shape = (1, -1, 1, 1)
        images = (images - torch.tensor(spec.mean).view(shape)) / torch.tensor(spec.std).view(shape)
    return images


def distances(model: nn.Module, images: torch.Tensor) -> list[float]:
    """Per batch norm in the order of running: how far its input is from the statistics that it keeps.

    The distance is Bhattacharyya's between two normal distributions (A. Bhattacharyya, 1943), at most 1,
    averaged over channels. ``model`` is left as it was.
    """
    model = deepcopy(model).float().eval()
    layer_distances: list[float] = []

    def measure(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        x = inputs[0]
        dims = [d for d in range(x.dim()) if d != 1]
        stored_mean, stored = norm.running_mean, norm.running_var
        assert isinstance(stored_mean, torch.Tensor)
        assert isinstance(stored, torch.Tensor)
        floor = _VARIANCE_FLOOR * stored.median()
        batch_var, stored_var = x.var(dims) + floor, stored + floor
        mean_term = (x.mean(dims) - stored_mean).square() / (batch_var + stored_var) / 4
        variance_term = (
            (batch_var + stored_var).log() - math.log(2) - (batch_var.log() + stored_var.log()) / 2
        )
        layer_distances.append((mean_term + variance_term / 2).clamp(max=_MAX_CHANNEL_DISTANCE).mean().item())

    for norm in batch_norms(model).values():
        norm.register_forward_pre_hook(measure)
        norm.train()
        norm.momentum = 0.0
    with torch.no_grad():
        model(images)
    return layer_distances


def compare(one: Sequence[float], other: Sequence[float]) -> Verdict:
    """Whether the first of two lists of `distances` is clearly the smaller; layers count alike."""
    a, b = torch.tensor(one, dtype=torch.float64), torch.tensor(other, dtype=torch.float64)
    if len(a) != len(b) or len(a) < MIN_LAYERS:
        return Verdict(math.nan, math.nan, math.nan, math.nan, False)
    relative = (b - a) / (a + b).clamp_min(1e-12)
    t = (relative.mean() / (relative.std() / math.sqrt(len(a))).clamp_min(1e-12)).item()
    return Verdict(
        distance=a.mean().item(),
        other=b.mean().item(),
        share=(b > a).double().mean().item(),
        t=t,
        clear=t > MIN_T and relative.mean().item() > MIN_DIFFERENCE,
    )
