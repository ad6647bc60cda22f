import json
import os

import pytest
import torch

from tests.cli.conftest import one_line

VECTORS = ("networks.py:vectors", "--input-size", "12")


def test_a_program_and_what_is_said_of_it(fork, work):
    done = fork("export", *VECTORS, "-o", "out.pt2")
    assert (done.returncode, "tsdistill:" in done.stderr) == (0, False)
    wrote, needs, check = done.stdout.splitlines()
    assert wrote.startswith("wrote   out.pt2: torch.export, ")
    assert wrote.endswith("kB, any batch size")
    assert needs == "needs   torch"
    assert "largest difference" in check
    assert "batches of 1, 3, 2" in check
    assert torch.export.load(work / "out.pt2").module()(torch.zeros(5, 12)).shape == (5, 4)


def test_python_source_of_own_code(fork, work):
    done = fork("export", *VECTORS, "-o", "built.py", "--json", "-")
    assert (done.returncode, "tsdistill:" in done.stderr) == (0, False)
    told = json.loads(done.stdout)
    assert (told["format"], told["kind"]) == (1, "export")
    assert told["export"]["files"] == ["built.py", "built.safetensors"]
    assert told["export"]["needs"] == ["torch", "safetensors", "networks"]
    assert told["export"]["check"]["difference"] == 0
    assert told["export"]["bytes"] == sum(
        os.path.getsize(work / name) for name in ("built.py", "built.safetensors")
    )


def test_a_fixed_batch_is_said(fork):
    done = fork("export", *VECTORS, "-o", "out.ts", "--static-batch", "--json", "fixed.json")
    assert done.returncode == 0, done.stderr
    assert "batches of 1 only" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*VECTORS, "-o", "out.bin"), ("out.bin", ".onnx")),
        ((*VECTORS, "-o", "nowhere/out.ts"), ("create it first",)),
        ((*VECTORS, "-o", "out.ts", "--opset", "18"), ("--opset", ".onnx")),
        (VECTORS, ("-o",)),
        (("networks.py:vectors", "-o", "out.ts"), ("--input-size",)),
        (("networks.py:failing", "--input-size", "12", "-o", "bad.ts"), ("no forward today",)),
        (("bare.pt", "--arch", "networks.py:narrow", "-o", "bad.py"), ("bare.pt",)),
    ],
)
def test_bad_input_is_one_line(fork, work, arguments, words):
    one_line(fork("export", *arguments), *words)
    assert not {"bad.ts", "bad.py", "bad.safetensors", "out.bin"} & set(os.listdir(work))


def test_code_that_a_file_names_needs_trust(fork, work):
    fork("export", *VECTORS, "-o", "named.py")
    one_line(fork("export", "named.safetensors", "-o", "again.ts"), "--trust")
    assert fork("export", "named.safetensors", "--trust", "-o", "again.ts").returncode == 0


PLUGIN = """
import torch
from tsdistill.plugin_api import Exporter, WrittenModel, hookimpl


class Whole(Exporter):
    '''The module, pickled.'''

    format = "pickle"

    def write(self, job):
        torch.save(job.model, job.files[0])
        return WrittenModel(torch.load(job.files[0], weights_only=False), "pickle 4")


@hookimpl
def register_exporters(register):
    register("pickled", Whole())
"""


def test_the_format_of_a_plugin(fork, work):
    (work / "whole.py").write_text(PLUGIN)
    done = fork("export", *VECTORS, "-o", "out.pickled", "--plugin", "whole.py")
    assert done.returncode == 0, done.stderr
    wrote, _, check = done.stdout.splitlines()
    assert wrote.startswith("wrote   out.pickled: pickle, ")
    assert "in pickle 4" in check
    listed = json.loads(fork("plugins", "--json", "-", "--plugin", "whole.py").stdout)
    assert {"onnx", "pt2", "ts", "py", "pretrained", "pickled"} == set(listed["exporter"])
    assert listed["plugins"][-1]["names"] == {"exporter": ["pickled"]}
    assert "pickled" not in fork("export", *VECTORS, "-o", "out.pickled").stdout
