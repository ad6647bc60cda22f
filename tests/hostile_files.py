"""Damaged and hostile files for every reader of what is not weights, drawn by a seed.

Most cases are a good file with some bytes, fields or lines changed; the others are known bad files. Each is
handed to the reader that a user of such a file reaches.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import shutil
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tsdistill.data.arrays import read_arrays
from tsdistill.data.examples import read_example
from tsdistill.data.image_folder import open_image
from tsdistill.data.named_datasets import read_idx
from tsdistill.distillation import checkpoints
from tsdistill.distillation.run_folder import RunFolder
from tsdistill.evaluation import Comparison
from tsdistill.lab.figures import read_outcome
from tsdistill.models.files import header, hub_folder
from tsdistill.models.sources import hf_source
from tsdistill.options.option_files import read_options
from tsdistill.options.train_options import TrainOptions
from tsdistill.pruning.plan_file import PruningPlan

Random = random.Random
Case = Callable[[Path, Random], Callable[[], Any]]

PLAN = {
    "format": 1, "kind": "pruning plan", "arch": "timm:resnet18", "budget": "half", "keep_strong": True,
    "data": "x", "before": {"params": 9, "macs": 9, "nodes": 6},
    "after": {"params": 5, "macs": 5, "nodes": 4},
    "by_size": [],
    "groups": {"a": {"size": 6, "removed": [1, 2], "reasons": ["dead", "weak"], "costs": [0.0, 0.5]}},
}  # fmt: skip
HEADER = {
    "version": 1, "arch": "timm:test_resnet", "attributes": [["a", "groups", 2], ["b", "size", [1, 2]]],
    "buffers": ["b"], "tied": {"x": "a"}, "orders": {"a": [1, 0]},
    "input": {"size": [3, 8, 8], "mean": None, "std": [1.0], "interpolation": "bicubic", "crop_pct": 1.0},
}  # fmt: skip
OUTCOME = {
    "format": 1, "kind": "lab", "name": "two-layer", "settings": {"seed": 0}, "data": {"x": [1.0, None]},
    "claims": [{"text": "a", "source": "b", "measured": "c", "held": None}], "notes": ["n"], "seconds": 1.5,
    "tables": [{"title": "t", "columns": ["a", "b"], "rows": [["x", 1], ["y", 2.5]]}],
}  # fmt: skip
OPTIONS: dict[str, Any] = {
    "epochs": 3, "lr": 0.1, "loss": {"hints": 1.0}, "augment": "none", "strict": False, "steps": None,
    "transform": {"scale": [0.5, 1.0]}, "seed": 7, "optimizer": "sgd",
}  # fmt: skip
TIMM = {
    "architecture": "test_vit", "num_classes": 5, "model_args": {"img_size": [96, 96]},
    "pretrained_cfg": {"input_size": [3, 96, 96], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
}  # fmt: skip
BERT = {
    "architectures": ["BertModel"], "model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1,
    "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 32, "max_position_embeddings": 16,
}  # fmt: skip
INDEX = {
    "metadata": {"total_size": 48},
    "weight_map": {"a.weight": "s.safetensors", "a.bias": "s.safetensors"},
}

TOML = 'epochs = 3\nlr = 0.1\nloss = "a + 0.5*b"\nseed = 7\n[transform]\nscale = [0.5, 1.0]\n'
YAML = "epochs: 3\nlr: 0.1\nloss:\n  - a\n  - 0.5*b\nseed: 7\ntransform: {scale: [0.5, 1.0]}\n"
ALIASES = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(9 * [f'*{old}'])}]\n" for old, new in zip("abcdefg", "bcdefgh", strict=True)
)
TEXTS = (
    b"", b"[", b"{}", b"null", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000, b"9" * 5000, b"NaN",
    b'{"a": 1e999}', b"a = " + b"[" * 20_000, b"- " * 20_000, b"a: !!python/object/apply:os.mkdir [ran]\n",
    b"<<: *a", b".".join(9000 * [b"a"]) + b" = 1", b"epochs = 0x" + b"f" * 9000, b"epochs: 0x" + b"f" * 9000,
    ALIASES.encode(), b"? " * 5000, b"&a [*a]", b"{" * 20_000,
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 3, 2**31, 2**63, 2**64, 10**400, 0.5, -0.0, 1e300, float("nan"), float("inf"),
    "", "x", "\x1b[2J\u202e", "\ud800", "x" * 5000, "../a", "/etc/passwd", "..", [], {}, [1], ["x"], [[]],
    [None], {"a": 1}, {"a": {"b": []}}, {"": 0}, [2**63] * 3, list(range(50)), {"options": {}},
)  # fmt: skip


def nested(depth: int) -> Any:
    """A list in a list in a list ..."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def changed(value: Any, draw: Random) -> Any:
    """Plain data with one place replaced, left out or added."""
    if not isinstance(value, (dict, list)) or not value or draw.random() < 0.1:
        return draw.choice(VALUES) if draw.random() < 0.97 else nested(200)
    copy = dict(value) if isinstance(value, dict) else list(value)
    key = draw.choice(list(value)) if isinstance(value, dict) else draw.randrange(len(value))
    action = draw.random()
    if action < 0.12:
        del copy[key]
    elif action < 0.2 and isinstance(copy, dict):
        copy[draw.choice(("x", "", "\x1b[2J", "extra-key", "y" * 3000))] = draw.choice(VALUES)
    else:
        copy[key] = changed(value[key], draw)
    return copy


def damaged(data: bytes, draw: Random) -> bytes:
    """Bytes with some bits flipped, runs overwritten, cut off or doubled."""
    made = bytearray(data)
    for _ in range(draw.randrange(1, 4)):
        if not made:
            break
        at, action = draw.randrange(len(made)), draw.random()
        if action < 0.5:
            made[at] ^= 1 << draw.randrange(8)
        elif action < 0.75:
            made[at : at + 4] = draw.choice((b"\xff" * 4, bytes(4), draw.randbytes(4), b"\x7f\xff\xff\xff"))
        elif action < 0.9:
            del made[at:]
        else:
            made[at:at] = made[at : at + draw.randrange(1, 200)]
    return bytes(made)


def document(plain: Any, draw: Random) -> bytes:
    """A JSON text, changed in its structure, in its bytes, or a bad one."""
    action = draw.random()
    if action < 0.7:
        for _ in range(draw.choice((0, 1, 1, 1, 2))):
            plain = changed(plain, draw)
        return json.dumps(plain).encode()
    if action < 0.9:
        return damaged(json.dumps(plain).encode(), draw)
    return draw.choice(TEXTS)


def written(path: Path, data: bytes) -> Path:
    """A file with ``data``."""
    path.write_bytes(data)
    return path


def plan(folder: Path, draw: Random) -> Callable[[], Any]:
    """A pruning plan."""
    file = written(folder / "plan.json", document(PLAN, draw))
    return lambda: str(PruningPlan.from_json(file))


def metadata(folder: Path, draw: Random) -> Callable[[], Any]:
    """The metadata of our own files."""
    text = document(HEADER, draw)
    return lambda: header.parse(text, folder / "a.safetensors")


def outcome(folder: Path, draw: Random) -> Callable[[], Any]:
    """An outcome of ``tsdistill lab``."""
    file = written(folder / "outcome.json", document(OUTCOME, draw))
    return lambda: read_outcome(file)


def comparison(_: Path, draw: Random) -> Callable[[], Any]:
    """A comparison as plain data."""
    plain = {
        "data": "x", "device": "cpu", "batch_size": 1, "notes": [],
        "metrics": {"top1": {"unit": "%", "higher_is_better": True}},
        "models": [{"name": "a", "params": 3, "macs": 5, "latency": 0.1, "metrics": {"top1": 50.0}}],
    }  # fmt: skip
    data = changed(plain, draw)
    return lambda: str(Comparison.from_dict(data))


def options(folder: Path, draw: Random) -> Callable[[], Any]:
    """A file of training options: JSON, TOML or YAML."""
    suffix = draw.choice((".json", ".toml", ".yaml"))
    if suffix == ".json":
        data = document(OPTIONS, draw)
    else:
        text = (TOML if suffix == ".toml" else YAML).encode()
        data = draw.choice(TEXTS) if draw.random() < 0.3 else damaged(text, draw)
    file = written(folder / f"run{suffix}", data)
    return lambda: TrainOptions.of(read_options(file), str(file))


def run_options(folder: Path, draw: Random) -> Callable[[], Any]:
    """``options.json`` of a run that is to be resumed."""
    identity = {"tsdistill": "0", "options": OPTIONS, "student": "a"}
    run = RunFolder(folder / "run")
    run.last.parent.mkdir(parents=True, exist_ok=True)
    written(run.options, document(identity, draw))
    written(run.last, STATE)
    return lambda: run.begin(identity, resume=True)


def checkpoint_bytes() -> bytes:
    """A run's checkpoint, small."""
    weight = torch.nn.Parameter(torch.ones(3, 4))
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    weight.sum().backward()
    optimizer.step()
    state = {
        "version": 1, "position": {"epoch": 1, "batch": 0, "updates": 7}, "log": [{"loss": 0.5}],
        "skipped": 0,
        "tally": {"total": 1.0, "parts": {}, "weight": 2.0, "samples": 8, "seconds": 0.1,
                  "skipped": 0, "complaint": ""},
        "loss": {}, "following": {}, "student": {"weight": weight.detach()},
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state()[:64],
    }  # fmt: skip
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


STATE = checkpoint_bytes()


def last(folder: Path, draw: Random) -> Callable[[], Any]:
    """``last.pt``: changed bytes, changed fields, other things of torch.save."""
    action = draw.random()
    if action < 0.6:
        data = damaged(STATE, draw)
    else:
        plain = torch.load(io.BytesIO(STATE), weights_only=True)
        buffer = io.BytesIO()
        torch.save(changed(plain, draw), buffer, _use_new_zipfile_serialization=action < 0.9)
        data = buffer.getvalue()
    file = written(folder / "last.pt", data)
    return lambda: checkpoints.read(file)


def npy_bytes(shape: tuple[int, ...], descr: str, held: bytes) -> bytes:
    """An array's file that says what one likes."""
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode("latin1") + held


def array_bytes(draw: Random) -> bytes:
    """A good array, or one whose header claims something else."""
    if draw.random() < 0.5:
        buffer = io.BytesIO()
        np.save(buffer, np.arange(24, dtype="f4").reshape(4, 6))
        return buffer.getvalue()
    shapes = ((2**40,), (43 * 2**40,), (4, 6), (2**31, 2**31), (-1,), (0, 2**60), (), (1,) * 70, (2**70,))
    kinds = ("<f4", "|O", "<U9", "<M8[ns]", "|V0", "<f8", ">i2", "<c8", "|b1", "nonsense")
    return npy_bytes(draw.choice(shapes), draw.choice(kinds), bytes(96))


def arrays(folder: Path, draw: Random) -> Callable[[], Any]:
    """``.npy`` and ``.npz`` as data and as an example input."""
    action = draw.random()
    if action < 0.4:
        data = array_bytes(draw)
        file = written(folder / "a.npy", damaged(data, draw) if draw.random() < 0.6 else data)
    else:
        kind = draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
        buffer = io.BytesIO()
        with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(buffer, "w", kind) as archive:
            for name in draw.choice((("x",), ("x", "y"), ("x", "x"), ("y",), ("../x",), ())):
                archive.writestr(f"{name}.npy", array_bytes(draw))
        data = buffer.getvalue()
        if draw.random() < 0.2:  # the bit that says: encrypted
            for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
                at = data.find(mark)
                if at >= 0:
                    data = data[: at + place] + b"\x01" + data[at + place + 1 :]
        file = written(folder / "a.npz", damaged(data, draw) if draw.random() < 0.7 else data)
    if draw.random() < 0.5:
        return lambda: read_arrays(file)[0]
    return lambda: read_example(str(file))


def example(folder: Path, draw: Random) -> Callable[[], Any]:
    """A ``.pt`` as an example input."""
    buffer = io.BytesIO()
    value: Any = draw.choice(
        (torch.ones(1, 3), {"x": torch.ones(1, 3)}, (torch.ones(1), 3, "a"), [{}], Path("x"))
    )
    torch.save(value, buffer, _use_new_zipfile_serialization=draw.random() < 0.6)
    file = written(folder / "a.pt", damaged(buffer.getvalue(), draw))
    return lambda: read_example(str(file))


def index(folder: Path, draw: Random) -> Callable[[], Any]:
    """An index of shards."""
    file = written(folder / "model.safetensors.index.json", document(INDEX, draw))
    return lambda: hub_folder.shards(file)


def timm_folder(folder: Path, draw: Random) -> Callable[[], Any]:
    """``config.json`` of timm."""
    file = written(folder / "config.json", document(TIMM, draw))
    return lambda: hub_folder._configured(file)


def hf_folder(folder: Path, draw: Random) -> Callable[[], Any]:
    """A folder of transformers, up to where its weights would be read."""
    place = folder / "hf"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    written(place / "config.json", document(BERT, draw))
    if draw.random() < 0.3:
        written(place / "model.safetensors.index.json", document(INDEX, draw))
    return lambda: hf_source.build(str(place), weights=False)


def png_bytes() -> bytes:
    """A small picture."""
    buffer = io.BytesIO()
    Image.fromarray(np.arange(192, dtype="u1").reshape(8, 8, 3)).save(buffer, "PNG")
    return buffer.getvalue()


def bomb_bytes(width: int, height: int) -> bytes:
    """A picture in PNG that says how large it is and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(10_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def picture_bytes() -> dict[str, bytes]:
    """A small picture of each kind, by suffix."""
    made = {}
    kinds = {".png": "PNG", ".jpg": "JPEG", ".gif": "GIF", ".webp": "WEBP", ".bmp": "BMP", ".tiff": "TIFF"}
    for suffix, kind in {**kinds, ".ppm": "PPM"}.items():
        buffer = io.BytesIO()
        Image.fromarray(np.arange(768, dtype="u2").astype("u1").reshape(16, 16, 3)).save(buffer, kind)
        made[suffix] = buffer.getvalue()
    return made


PICTURES = picture_bytes()


def picture(folder: Path, draw: Random) -> Callable[[], Any]:
    """A picture, a bomb, a pipe."""
    action = draw.random()
    if action < 0.02:
        pipe = folder / "x.png"
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe)
        return lambda: open_image(pipe)
    if action < 0.1:
        sides = draw.choice(((60_000, 60_000), (2**31 - 1, 1), (12_000, 12_000), (9000, 9000), (0, 5)))
        file = written(folder / "bomb.png", bomb_bytes(*sides))
    else:
        suffix = draw.choice(list(PICTURES))
        file = written(folder / f"y{suffix}", damaged(PICTURES[suffix], draw))
    return lambda: open_image(file)


def idx(folder: Path, draw: Random) -> Callable[[], Any]:
    """A file of MNIST's kind."""
    data = struct.pack(">HBBIII", 0, 8, 3, 2, 4, 4) + bytes(32)
    if draw.random() < 0.2:
        data = struct.pack(">HBB", 0, draw.randrange(256), draw.randrange(256)) + draw.randbytes(60)
    data = damaged(data, draw)
    if draw.random() < 0.5:
        packed = gzip.compress(data)
        file = written(folder / "a-ubyte.gz", damaged(packed, draw) if draw.random() < 0.7 else packed)
    else:
        file = written(folder / "a-ubyte", data)
    return lambda: read_idx(file)


CASES: dict[str, Case] = {
    each.__name__: each
    for each in (
        plan, metadata, outcome, comparison, options, run_options, last, arrays, example, index, timm_folder,
        hf_folder, picture, idx,
    )
}  # fmt: skip
