"""Run by test_hostile.py in a process of its own: small files that ask for much memory."""

import json
import pickle
import resource
import struct
import sys
import zipfile
from pathlib import Path

import safetensors.torch
import timm  # noqa: F401
import torch

from tsdistill.errors import TsdistillError
from tsdistill.models import load

LIMIT = 400 * 2**20

STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu%stQ"
REBUILD = b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n(%s%s%s%s\x89}tRs."
HUGE = b"\x8a\x06" + (10**13).to_bytes(6, "little")
ONE = b"K\x01"

PICKLES = {
    "bytearray": b"\x80\x02cbuiltins\nbytearray\n" + HUGE + b"\x85R.",
    "tensor": b"\x80\x02ctorch\nTensor\n" + HUGE + b"\x85R.",
    "storage": b"\x80\x02ctorch\nFloatStorage\n" + HUGE + b"\x85R.",
    "memo": b"\x80\x02]r\xff\xff\xff\xff.",
    "bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"abc.",
    "buffer": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"abc.",
    "text": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"abc.",
    "deep tuple as key": b"\x80\x02})" + b"\x85" * 150_000 + b"Ns.",
    "deep list": b"\x80\x02" + b"]" * 150_000 + b"a" * 149_999 + b".",
    "sets": b"\x80\x04" + b"\x8f" * 1_200_000 + b".",
    "marks": b"\x80\x04" + b"(" * 1_200_000 + b".",
    "laughs": b"\x80\x02]q\x00" + b"".join(b"](h%ch%ceq%c" % (n, n, n + 1) for n in range(60)) + b".",
    "long tensor": REBUILD % (STORAGE % ONE, b"K\x00", HUGE + b"\x85", ONE + b"\x85"),
    "long storage": REBUILD % (STORAGE % HUGE, b"K\x00", HUGE + b"\x85", ONE + b"\x85"),
    "expanded": REBUILD % (STORAGE % ONE, b"K\x00", HUGE + b"\x85", b"K\x00\x85"),
    "negative": REBUILD % (STORAGE % ONE, b"J\xff\xff\xff\xff", ONE + b"\x85", ONE + b"\x85"),
}
ARCHS = (
    "timm:vit_tiny_patch16_224,depth=1000000",
    "timm:vit_tiny_patch16_224,embed_dim=600000,num_heads=1",
    "timm:vit_tiny_patch16_224,img_size=200000",
    "timm:swin_tiny_patch4_window7_224,window_size=100000,img_size=800000",
    "timm:resnet18,num_classes=1048575",
    "timm:vit_giant_patch14_224",
    "torchvision:vit_h_14",
    "torchvision:resnet18,width_per_group=100000",
)


def files(folder: Path) -> list[Path]:
    """Write them all."""
    made = []

    def add(name: str, data: bytes) -> None:
        (folder / name).write_bytes(data)
        made.append(folder / name)

    for name, data in PICKLES.items():
        add(f"{name}.pkl", data)
        if len(data) > 100_000:
            continue
        with zipfile.ZipFile(folder / f"{name}.pt", "w") as archive:
            archive.writestr("a/data.pkl", data)
            archive.writestr("a/data/0", b"abcd")
        made.append(folder / f"{name}.pt")
    with zipfile.ZipFile(folder / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(2**29))
    made.append(folder / "bomb.pt")
    first: tuple[object, ...] = (0x1950A86A20F9469CFC6C, 1001, {})
    magic = [pickle.dumps(each, 2) for each in first]
    old = b"".join(magic) + PICKLES["long storage"] + pickle.dumps(["0"], 2)
    add("old.pth", old + struct.pack("<q", 10**13) + b"abcd")
    for name, length in (("header", 2**63), ("header2", 2**33), ("header3", 99_000_000)):
        add(f"{name}.safetensors", struct.pack("<Q", length) + b"{}")
    row = {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}
    for name, rows in (("row", {"a": row}), ("nested", {"a": {}})):
        text = json.dumps(rows).replace("{}", '{"a":' * 100_000 + "1" + "}" * 100_000).encode()
        add(f"{name}.safetensors", struct.pack("<Q", len(text)) + text)
    for number, arch in enumerate(ARCHS):
        fields = {"version": 1, "arch": arch, "input": None, "attributes": [], "buffers": [], "tied": {}}
        stored = json.dumps({**fields, "orders": {}})
        file = folder / f"arch{number}.safetensors"
        safetensors.torch.save_file({"a": torch.ones(4)}, file, {"tsdistill": stored})
        made.append(file)
        if number > 1:
            continue
        inner = folder / f"hub{number}"
        inner.mkdir()
        safetensors.torch.save_file({"a": torch.ones(4)}, inner / "model.safetensors")
        name, *options = arch.partition(":")[2].split(",")
        pairs = dict(option.split("=") for option in options)
        arguments = {key: int(value) for key, value in pairs.items()}
        (inner / "config.json").write_text(json.dumps({"architecture": name, "model_args": arguments}))
        made.append(inner)
    return made


def main() -> None:
    """Load each file; anything but a TsdistillError of one line is a fault."""
    made = files(Path(sys.argv[1]))
    load("timm:test_vit,pretrained=false")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + LIMIT, resource.RLIM_INFINITY))
    wrong = []
    for file in made:
        try:
            load(file)
            wrong.append(f"{file.name}: was loaded")
        except TsdistillError as error:
            if "\n" in str(error) or "MemoryError" in str(error) or "alloc" in str(error):
                wrong.append(f"{file.name}: {str(error)[:300]}")
        except BaseException as error:
            wrong.append(f"{file.name}: {type(error).__name__} {str(error)[:300]}")
    print("\n".join(wrong))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
