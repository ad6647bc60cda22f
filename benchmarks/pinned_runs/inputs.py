"""What the pinned runs read: images and labels, token ids, and weights; the same bytes every time.

Nothing of the toolkit is imported, so that a checkout is measured by what it reads and writes alone.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

FASHION = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package ``dataset-fashion-mnist`` puts its files."""

BENCHMARKS = Path(__file__).parents[1]

SWIN = "timm:swin_tiny_patch4_window7_224,img_size=56,embed_dim=24,num_classes=10"
"""A Swin transformer of four stages that a processor runs in milliseconds: 56 x 56 pixels, 24 channels."""

LLAMA = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
}


def arch(name: str) -> str:
    """The specification of one of the four networks of ``networks.py``."""
    return f"{BENCHMARKS / 'networks.py'}:{name}"


def weights(name: str) -> str:
    """The file of its trained weights."""
    return str(BENCHMARKS / "trained" / f"{name}.safetensors")


def images(part: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first ``count`` of ``"train"`` or ``"t10k"``: normalised ``[n, 1, 28, 28]``, labels ``[n]``."""
    with gzip.open(FASHION / f"{part}-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(16 + count * 784), np.uint8, offset=16)
    with gzip.open(FASHION / f"{part}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(8 + count), np.uint8, offset=8)
    x = (pixels.reshape(-1, 1, 28, 28).astype(np.float32) / 255 - 0.286) / 0.353
    return x.astype(np.float32), labels.astype(np.int64)


def image_file(folder: Path, count: int, part: str = "train") -> str:
    """Images and labels as an ``.npz`` in ``folder``."""
    path = folder / f"{part}-{count}.npz"
    x, y = images(part, count)
    np.savez(path, x=x, y=y)
    return str(path)


def normal_file(folder: Path, count: int, *shape: int) -> str:
    """``count`` samples of ``shape`` whose values are standard normal, as an ``.npy`` in ``folder``."""
    path = folder / "normal.npy"
    np.save(path, np.random.default_rng(0).standard_normal((count, *shape)).astype(np.float32))
    return str(path)


def tokens(count: int, length: int) -> torch.Tensor:
    """``count`` sequences of ``length`` random token ids of the Llama."""
    return torch.from_numpy(np.random.default_rng(0).integers(0, LLAMA["vocab_size"], (count, length)))


def noisy_weights(folder: Path, name: str) -> str:
    """The trained weights of a network, each floating tensor moved by a tenth of its deviation, as a file."""
    path = folder / f"{name}-noisy.safetensors"
    generator = torch.Generator().manual_seed(0)
    moved = {}
    for key, value in sorted(load_file(weights(name)).items()):
        spread = value.std() if value.is_floating_point() and value.numel() > 1 else torch.tensor(0.0)
        noise = torch.randn(value.shape, generator=generator) if spread > 0 else torch.zeros(())
        moved[key] = (value + 0.1 * spread * noise).to(value.dtype)
    save_file(moved, path)
    return str(path)


def random_weights(folder: Path, build: Callable[[], torch.nn.Module]) -> str:
    """The weights that ``build`` draws with seed 0, as a file in ``folder``."""
    path = folder / "random.safetensors"
    torch.manual_seed(0)
    save_file({key: value.contiguous() for key, value in build().state_dict().items()}, path)
    return str(path)


def swin() -> torch.nn.Module:
    """The Swin transformer that `SWIN` specifies."""
    import timm

    name, *settings = SWIN.partition(":")[2].split(",")
    options = {key: int(value) for key, value in (setting.split("=") for setting in settings)}
    return timm.create_model(name, **options)


def llama() -> torch.nn.Module:
    """A small Llama with weights of seed 0."""
    import transformers

    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA)).eval()
