"""Networks of other libraries, built as their users build them: ``others.py:NAME`` is a factory.

Each library is needed for its own rows only: ``pip install segmentation-models-pytorch ultralytics
open_clip_torch monai vit-pytorch efficientnet-pytorch pytorchcv torch_geometric diffusers snntorch``.
Weights are random.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Network:
    """One network.

    Attributes:
        size: shape of a sample.
        path: dotted name of what builds it.
        args: positional arguments of that.
        options: its keyword arguments.
        part: attribute of what it builds that takes part, all of it when empty.
        inputs: a seed -> the keyword arguments of a forward, of a network that takes no single tensor.
        needs: the package that it is made of, where ``path`` does not begin with it.
    """

    size: tuple[int, ...] | None
    path: str
    args: tuple[Any, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    part: str = ""
    inputs: Callable[[int], dict[str, Any]] | None = None
    needs: str = ""

    @property
    def library(self) -> str:
        """The package that it comes from."""
        return self.needs or self.path.partition(".")[0]

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


def _graph(seed: int) -> dict[str, Tensor]:
    """A ring of 30 nodes with 20 edges more, and 12 features a node."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.arange(30)
    ring = torch.stack([place, (place + 1) % 30])
    edges = torch.cat([ring, ring.flip(0), torch.randint(0, 30, (2, 20), generator=generator)], 1)
    return {"x": torch.randn(30, 12, generator=generator), "edge_index": edges}


def _geometric() -> Iterator[tuple[str, Network]]:
    shape = {"in_channels": 12, "hidden_channels": 32, "num_layers": 3, "out_channels": 5}
    aggregation = {"aggregators": ["mean", "max", "std"], "scalers": ["identity", "amplification"]}
    more: dict[str, dict[str, Any]] = {
        "PNA": {**aggregation, "deg": torch.tensor([0, 0, 4, 10, 10, 6])},
        "GAT": {"heads": 4},
    }
    for kind in ("GCN", "GraphSAGE", "GIN", "GAT", "PNA", "EdgeCNN"):
        options = {**shape, **more.get(kind, {})}
        yield f"graph-{kind}", Network(None, f"torch_geometric.nn.{kind}", options=options, inputs=_graph)
    second = {**shape, "v2": True, "heads": 4}
    yield "graph-GATv2", Network(None, "torch_geometric.nn.GAT", options=second, inputs=_graph)


def _noise(side: int, channels: int, text: bool = False) -> Callable[[int], dict[str, Tensor]]:
    """The inputs of a network that takes noise away: an image, a time step and, with ``text``, embeddings."""

    def inputs(seed: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        given = {
            "sample": torch.randn(1, channels, side, side, generator=generator),
            "timestep": torch.randint(0, 1000, (1,), generator=generator),
        }
        if text:
            given["encoder_hidden_states"] = torch.randn(1, 7, 24, generator=generator)
        return given

    return inputs


def _diffusers() -> Iterator[tuple[str, Network]]:
    small: dict[str, Any] = {"sample_size": 16, "layers_per_block": 1, "norm_num_groups": 8}
    blocks = {"block_out_channels": (16, 32)}

    yield (
        "diffusers-UNet2D",
        Network(
            None,
            "diffusers.UNet2DModel",
            options={
                **small,
                **blocks,
                "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
                "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
                "attention_head_dim": 8,
            },
            inputs=_noise(16, 3),
        ),
    )
    yield (
        "diffusers-UNet2DCondition",
        Network(
            None,
            "diffusers.UNet2DConditionModel",
            options={
                **small,
                **blocks,
                "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
                "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
                "cross_attention_dim": 24,
                "attention_head_dim": 8,
            },
            inputs=_noise(16, 4, text=True),
        ),
    )
    yield (
        "diffusers-AutoencoderKL",
        Network(
            (3, 32, 32),
            "diffusers.AutoencoderKL",
            options={
                **blocks,
                "norm_num_groups": 8,
                "down_block_types": ("DownEncoderBlock2D",) * 2,
                "up_block_types": ("UpDecoderBlock2D",) * 2,
            },
        ),
    )
    yield (
        "diffusers-DiT",
        Network(
            None,
            "diffusers.DiTTransformer2DModel",
            options={
                "num_attention_heads": 4,
                "attention_head_dim": 8,
                "in_channels": 4,
                "num_layers": 2,
                "sample_size": 8,
                "num_embeds_ada_norm": 1000,
                "norm_num_groups": 8,
            },
            inputs=_labelled_noise,
        ),
    )


def _labelled_noise(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "hidden_states": torch.randn(1, 4, 8, 8, generator=generator),
        "timestep": torch.randint(0, 1000, (1,), generator=generator),
        "class_labels": torch.randint(0, 1000, (1,), generator=generator),
    }


class Spiking(nn.Module):
    """Convolutions between leaky neurons of snntorch, a static image shown for some steps.

    Args:
        hidden: whether neurons keep their membranes by themselves, or the loop passes them on.
    """

    def __init__(self, hidden: bool) -> None:
        super().__init__()
        import snntorch

        self.one, self.two, self.out = nn.Conv2d(1, 16, 3, 2), nn.Conv2d(16, 24, 3, 2), nn.Linear(24 * 49, 10)
        kept = {"init_hidden": hidden}
        self.neurons = nn.ModuleList(snntorch.Leaky(beta=0.9, **kept) for _ in range(2))
        self.last = snntorch.Leaky(beta=0.9, **kept, output=True)
        self.hidden = hidden

    def forward(self, x: Tensor) -> Tensor:
        """Mean membrane of the last neurons over the steps, ``[batch, 10]``."""
        neurons = (*self.neurons, self.last)
        memory = [neuron.reset_mem() for neuron in neurons]
        shown = []
        for _ in range(4):
            seen = x
            for number, (layer, neuron) in enumerate(
                zip((self.one, self.two, self.out), neurons, strict=True)
            ):
                seen = layer(seen.flatten(1) if layer is self.out else seen)
                if self.hidden:
                    spikes = neuron(seen)
                    seen, memory[number] = spikes if isinstance(spikes, tuple) else (spikes, None)
                else:
                    seen, memory[number] = neuron(seen, memory[number])
            shown.append(memory[-1])
        return torch.stack(shown).mean(0)


def _snntorch() -> Iterator[tuple[str, Network]]:
    for name, hidden in (("own-membranes", True), ("passed-membranes", False)):
        yield f"snn-{name}", Network(PLANE, f"{__name__}.Spiking", (hidden,), needs="snntorch")


NETWORKS: dict[str, Network] = {
    name.lower().replace("-", "_"): network
    for library in (
        *(_segmentation, _ultralytics, _clip, _monai, _vit_pytorch, _image_classifiers),
        *(_geometric, _diffusers, _snntorch),
    )
    for name, network in library()
}
"""All of them by name."""


def __getattr__(name: str) -> Callable[[], nn.Module]:
    if name not in NETWORKS:
        raise AttributeError(f"{__name__} has no {name}")
    return partial(Network.build, NETWORKS[name])
