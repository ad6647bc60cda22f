"""Files with faults drawn at random: read, or refused in one printable line."""

import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tsdistill import models
from tsdistill.errors import TsdistillError
from tsdistill.models.files import checkpoint, header, hub_folder
from tsdistill.pruning.plan_file import PruningPlan

load: Any = models.load

FEW, MANY = 60, 2000
TENSORS = {"a.weight": torch.arange(12.0).reshape(3, 4), "a.bias": torch.ones(3, dtype=torch.float16)}
FIELDS = {
    "version": 1,
    "arch": "timm:test_resnet",
    "input": {"size": [3, 8, 8], "mean": None, "std": [1.0], "interpolation": "bicubic", "crop_pct": 1.0},
    "attributes": [["a", "groups", 2]],
    "buffers": ["b"],
    "tied": {"x": "a.bias"},
    "orders": {"a.weight": [1, 0]},
}


def refused_or_read(call, *arguments):
    """What is not read must be refused in one printable line."""
    try:
        return call(*arguments)
    except TsdistillError as error:
        said = str(error)
    assert said.isprintable()
    return None


def torch_bytes(value, zipped=True):
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def program_bytes():
    """A file as torch.export lays it out, with the weights alone."""
    rows = {
        name: {
            "path_name": f"weight_{number}",
            "is_param": True,
            "use_pickle": False,
            "tensor_meta": {
                "dtype": 7,
                "sizes": [{"as_int": n} for n in tensor.shape],
                "strides": [{"as_int": n} for n in tensor.stride()],
                "storage_offset": {"as_int": 0},
            },
        }
        for number, (name, tensor) in enumerate(TENSORS.items())
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number, tensor in enumerate(TENSORS.values()):
            archive.writestr(f"a/data/weights/weight_{number}", tensor.float().numpy().tobytes())
        archive.writestr("a/data/weights/model_weights_config.json", json.dumps({"config": rows}))
    return buffer.getvalue()


SEEDS = {
    ".pt": torch_bytes({"state_dict": TENSORS, "epoch": 3, "args": {"lr": [0.1, None, True]}}),
    ".pth": torch_bytes(TENSORS, zipped=False),
    ".ckpt": torch_bytes({"tsdistill": FIELDS, "state_dict": TENSORS}),
    ".safetensors": safetensors.torch.save(TENSORS, {"tsdistill": json.dumps(FIELDS)}),
    ".pkl": pickle.dumps({"a": [1, 2.5, "x", b"y", (None, {3})]}, protocol=4),
    ".pt2": program_bytes(),
}


def damaged(data, edits, keep):
    """Bytes with some places overwritten, and only a share of them kept."""
    changed = bytearray(data)
    for place, new in edits:
        at = int(place * len(changed))
        changed[at : at + len(new)] = new
    return bytes(changed[: int(keep * len(changed))])


EDITS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=9)), max_size=4)
KEEP = st.one_of(st.just(1.0), st.floats(0, 1))
NUMBERS = st.one_of(st.integers(-3, 40), st.sampled_from([2**31, 2**53, 2**63 - 1, 2**64, 10**30, -(2**63)]))
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.floats(), st.text(max_size=6), st.just("timm:test_vit")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=8,
)
ROWS = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "BF16", "I64", "BOOL", "F8_E4M3", "F4", "U64", "X", ""]),
        "shape": st.lists(NUMBERS, max_size=3),
        "data_offsets": st.lists(NUMBERS, min_size=1, max_size=3),
    }
)
OPCODES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *(
                    bytes([code])
                    for code in b"(.0120NIFLVSXU]}e)tslauod\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x93\x94"
                ),
                *(
                    b"\x80\x04",
                    b"cposix\nmkdir\n",
                    b"ios\nsystem\n",
                    b"\x8c\x02os",
                    b"\x8c\x05mkdir",
                    b"\x8c\x03ran",
                ),
                *(
                    b"ctorch._utils\n_rebuild_tensor_v2\n",
                    b"ctorch\nFloatStorage\n",
                    b"X\x07\x00\x00\x00storage",
                ),
                *(
                    b"ccollections\nOrderedDict\n",
                    b"Q",
                    b"R",
                    b"b",
                    b"q\x00",
                    b"h\x00",
                    b"r\xff\xff\xff\xff",
                    b"K\x03",
                ),
                *(
                    b"ccopyreg\n_reconstructor\n",
                    b"cbuiltins\nbytearray\n",
                    b"\x8a\x06\xff\xff\xff\xff\xff\x7f",
                ),
                *(
                    b"ctorch._tensor\n_rebuild_from_type_v2\n",
                    b"\x96\xff\xff\xff\xff\xff\xff\x00\x00",
                    b"P1\n",
                ),
            ]
        ),
        st.binary(max_size=3),
    ),
    max_size=40,
)
FUZZ: dict[str, Any] = {
    "deadline": None,
    "derandomize": True,
    "suppress_health_check": list(HealthCheck),
    "database": None,
}


def fuzz_bytes(folder, suffix, edits, keep):
    file = folder / f"a{suffix}"
    file.write_bytes(damaged(SEEDS[suffix], edits, keep))
    contents = refused_or_read(checkpoint.read, file)
    if contents is not None:
        assert all(tensor.numel() < 10_000 for tensor in contents.tensors.values())
        if contents.header is not None:
            refused_or_read(header.parse, contents.header, file)


def fuzz_rows(folder, rows, metadata, length):
    names = {f"t{number}": row for number, row in enumerate(rows)}
    text = json.dumps({**names, "__metadata__": metadata}).encode()
    data = struct.pack("<Q", len(text) if length is None else abs(length) % 2**64) + text + bytes(64)
    (folder / "a.safetensors").write_bytes(data)
    refused_or_read(checkpoint.read, folder / "a.safetensors")


def fuzz_opcodes(folder, codes):
    here = os.getcwd()
    os.chdir(folder)
    try:
        data = b"\x80\x02" + b"".join(codes) + b"."
        Path("a.pkl").write_bytes(data)
        refused_or_read(checkpoint.read, Path("a.pkl"))
        with zipfile.ZipFile("a.pt", "w") as archive:
            archive.writestr("a/data.pkl", data)
        refused_or_read(checkpoint.read, Path("a.pt"))
        assert sorted(os.listdir(".")) == ["a.pkl", "a.pt"]
    finally:
        os.chdir(here)


def fuzz_fields(folder, field, value):
    path = folder / "a.safetensors"
    refused_or_read(header.parse, json.dumps({**FIELDS, field: value}), path)
    refused_or_read(header.parse, {**FIELDS, field: value}, path)
    refused_or_read(PruningPlan.from_json, json.dumps({"version": 1, "groups": value, field: value}))
    (folder / "model.safetensors").write_bytes(SEEDS[".safetensors"])
    (folder / "config.json").write_text(json.dumps({"architecture": "test_vit", field: value}))
    refused_or_read(hub_folder._configured, folder / "config.json")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": value}))
    (folder / "model.safetensors").unlink()
    refused_or_read(hub_folder.read, folder)


TARGETS = {
    "bytes": (fuzz_bytes, (st.sampled_from(sorted(SEEDS)), EDITS, KEEP)),
    "rows": (fuzz_rows, (st.lists(ROWS, max_size=3), JSON, st.one_of(st.none(), NUMBERS))),
    "opcodes": (fuzz_opcodes, (OPCODES,)),
    "fields": (
        fuzz_fields,
        (st.sampled_from([*FIELDS, "model_args", "num_classes", "pretrained_cfg", "architecture"]), JSON),
    ),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_fuzz(tmp_path_factory, target, count):
    call, strategies = TARGETS[target]
    folder = tmp_path_factory.mktemp("fuzz")

    @settings(max_examples=count, **FUZZ)
    @given(st.tuples(*strategies))
    def run(arguments):
        call(folder, *arguments)

    run()
