import shlex

import pytest

from tsdistill.cli import analyze_command
from tsdistill.cli import prune_command as prune_module
from tsdistill.cli.command_text import prune_command

OPTIONS = [
    ["--data", "photos of mine/", "--samples", "64", "--seed", "3", "--batch-size", "8"],
    [
        "--arch",
        "timm:resnet18",
        "--input-size",
        "3x32x32",
        "--mean",
        "0.5,0.4,0.3",
        "--std",
        "1,1,1",
        "--trust",
    ],
    ["--data", "a.txt", "--length", "256", "--tokenizer", "my model/"],
    ["--example-input", "it's.npy", "--device", "meta", "--augment", "noise", "--interpolation", "nearest"],
    [],
]


@pytest.mark.parametrize("given", OPTIONS)
def test_prune_reads_from_the_command_what_analyze_was_given(given: list[str]) -> None:
    model = "my models/weights.pt"
    asked = analyze_command.command.make_context("analyze", [model, *given]).params
    words = shlex.split(prune_command(model, asked).replace("{macs}", "0.5"))
    assert words[:3] == ["tsdistill", "prune", model]
    read = prune_module.command.make_context("prune", words[2:]).params
    shared = set(asked) & set(read) - {"json_file", "metric", "nodes"}
    assert {"data", "samples", "input_size", "trust"} <= shared
    assert {name: read[name] for name in shared} == {name: asked[name] for name in shared}
    assert (read["macs"], read["model"]) == ("0.5", model)
