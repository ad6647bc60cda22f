"""Networks of other libraries, built as their users build them: ``others.py:NAME`` is a factory.

Each library is needed for its own rows only: ``pip install segmentation-models-pytorch ultralytics
open_clip_torch monai vit-pytorch efficientnet-pytorch pytorchcv``. Weights are random.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Network:
    """One network.

    Attributes:
        size: shape of a sample.
        path: dotted name of what builds it.
        args: positional arguments of that.
        options: its keyword arguments.
        part: attribute of what it builds that takes part, all of it when empty.
    """

    size: tuple[int, ...]
    path: str
    args: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    part: str = ""

    @property
    def library(self) -> str:
        """The package that it comes from."""
        return self.path.partition(".")[0]

    def build(self) -> nn.Module:
        """A network with random weights."""
        first, *rest = self.path.split(".")
        found: Any = importlib.import_module(first)
        for number, name in enumerate(rest, 1):
            if not hasattr(found, name):
                importlib.import_module(".".join([first, *rest[:number]]))
            found = getattr(found, name)
        model = found(*self.args, **self.options)
        return getattr(model, self.part) if self.part else model


IMAGE, LARGE, PLANE, VOLUME = (3, 64, 64), (3, 224, 224), (1, 32, 32), (1, 32, 32, 32)


def _segmentation() -> Iterator[tuple[str, Network]]:
    options = {"encoder_weights": None, "classes": 3}
    for kind in (
        *("Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "DeepLabV3", "DeepLabV3Plus"),
        *("UPerNet", "Segformer"),
    ):
        yield kind, Network(IMAGE, f"segmentation_models_pytorch.{kind}", ("resnet18",), options)


def _ultralytics() -> Iterator[tuple[str, Network]]:
    for task, names in {
        "DetectionModel": (
            *("yolov5n", "yolov8n", "yolov9t", "yolov10n", "yolo11n", "yolo12n"),
            "rtdetr-resnet50",
        ),
        "SegmentationModel": ("yolov8n-seg",),
        "PoseModel": ("yolov8n-pose",),
        "ClassificationModel": ("yolov8n-cls",),
    }.items():
        for name in names:
            path = f"ultralytics.nn.tasks.{task}"
            yield name, Network((3, 128, 128), path, (f"{name}.yaml",), {"verbose": False})


def _clip() -> Iterator[tuple[str, Network]]:
    for name in ("RN50", "ViT-S-32"):
        yield f"clip-{name}", Network(LARGE, "open_clip.create_model", (name,), part="visual")


def _monai() -> Iterator[tuple[str, Network]]:
    both = {"in_channels": 1, "out_channels": 2}
    levels = {"channels": (8, 16, 32), "strides": (2, 2)}
    kernels = {"kernel_size": [3] * 3, "strides": [1, 2, 2], "upsample_kernel_size": [2] * 2}
    patches = {"img_size": (32,) * 3, "hidden_size": 48, "mlp_dim": 96, "num_heads": 4}
    for kind, size, options in (
        ("UNet", VOLUME, {"spatial_dims": 3, "num_res_units": 2, **both, **levels}),
        ("AttentionUnet", PLANE, {"spatial_dims": 2, **both, **levels}),
        ("SegResNet", VOLUME, {"init_filters": 8}),
        ("VNet", VOLUME, {}),
        ("DenseNet121", (1, 64, 64), {"spatial_dims": 2, **both}),
        ("DynUNet", PLANE, {"spatial_dims": 2, **both, **kernels}),
        ("UNETR", VOLUME, {"feature_size": 8, **both, **patches}),
        ("SwinUNETR", (1, 64, 64, 64), {"feature_size": 12, **both}),
    ):
        yield f"monai-{kind}", Network(size, f"monai.networks.nets.{kind}", options=options)


def _vit_pytorch() -> Iterator[tuple[str, Network]]:
    plain = {"image_size": 64, "patch_size": 16, "dim": 64, "depth": 2, "heads": 4, "mlp_dim": 128}
    windows = {"global_window_size": (4, 2, 2, 1), "local_window_size": 2}
    stages = {"s1_emb_dim": 32, "s2_emb_dim": 64, "s2_heads": 2, "s2_depth": 1, "s3_emb_dim": 64}
    for path, options in {
        "ViT": plain,
        "simple_vit.SimpleViT": plain,
        "deepvit.DeepViT": plain,
        "cct.CCT": {"img_size": 64, "embedding_dim": 64, "num_layers": 2, "num_heads": 4, "mlp_ratio": 2.0},
        "cvt.CvT": {**stages, "s3_heads": 2, "s3_depth": 1},
        "crossformer.CrossFormer": {"dim": (32, 64, 64, 64), "depth": (1,) * 4, **windows},
        "max_vit.MaxViT": {
            **{"dim_conv_stem": 32, "dim": 32, "dim_head": 16},
            **{"depth": (1, 1), "window_size": 4},
        },
        "mobile_vit.MobileViT": {
            "image_size": (64, 64),
            "dims": [48, 64, 80],
            "channels": [16, 16, 24, 24, 32, 32, 48, 48, 48, 48, 96],
        },
    }.items():
        yield (
            f"vit-{path.rpartition('.')[2]}",
            Network(IMAGE, f"vit_pytorch.{path}", options={"num_classes": 10, **options}),
        )


def _image_classifiers() -> Iterator[tuple[str, Network]]:
    yield (
        "EfficientNet-B0",
        Network(LARGE, "efficientnet_pytorch.EfficientNet.from_name", ("efficientnet-b0",)),
    )
    for name in (
        *("resnet18", "preresnet18", "seresnet18", "darknet53", "hrnet_w18_small_v1", "mobilenet_w1"),
        *("shufflenetv2_wd2", "nasnet_4a1056", "diracnet18v2", "bagnet9", "selecsls42"),
    ):
        yield f"cv-{name}", Network(LARGE, "pytorchcv.model_provider.get_model", (name,))


NETWORKS: dict[str, Network] = {
    name.lower().replace("-", "_"): network
    for library in (_segmentation, _ultralytics, _clip, _monai, _vit_pytorch, _image_classifiers)
    for name, network in library()
}
"""All of them by name."""


def __getattr__(name: str) -> Callable[[], nn.Module]:
    if name not in NETWORKS:
        raise AttributeError(f"{__name__} has no {name}")
    return partial(Network.build, NETWORKS[name])
