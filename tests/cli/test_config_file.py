"""``--config``: options in a file, of every command; the command line comes before it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from tsdistill.cli.command import Command
from tsdistill.cli.config_file import file_options
from tsdistill.cli.main import COMMANDS, cli
from tsdistill.errors import TsdistillError


def command_of(*names: str) -> tuple[click.Command, click.Context]:
    ctx = click.Context(cli, info_name="tsdistill")
    command: Any = cli
    for name in names:
        command = command.get_command(ctx, name)
        ctx = click.Context(command, parent=ctx, info_name=name)
    return command, ctx


def parsed(command: click.Command, *arguments: str) -> dict[str, Any]:
    return command.make_context("it", list(arguments)).params


def config(folder: Path, text: str, name: str = "options.yaml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


PATHS = [(name,) for name in COMMANDS if name != "lab"] + [("lab", "check"), ("lab", "two-layer")]


@pytest.mark.parametrize("names", PATHS, ids=" ".join)
def test_every_command_takes_one(names: tuple[str, ...], tmp_path: Path) -> None:
    command, _ = command_of(*names)
    needed = [p for p in command.params if p.required]
    arguments = ["x" for p in needed if isinstance(p, click.Argument)]
    options = [p for p in needed if isinstance(p, click.Option)]
    lines = "".join(f"{p.opts[-1].lstrip('-')}: {'[x]' if p.multiple else 'x'}\n" for p in options)
    file = config(tmp_path, lines + "json: out.json\n")
    assert parsed(command, *arguments, "--config", file)["json_file"] == "out.json"
    assert parsed(command, *arguments, "--config", file, "--json", "-")["json_file"] == "-"
    with pytest.raises(TsdistillError, match="no option 'jsn'; did you mean json"):
        parsed(command, *arguments, "--config", config(tmp_path, "jsn: x\n"))


def test_values_of_every_form(tmp_path: Path) -> None:
    command, _ = command_of("analyze")
    text = """
samples: 64
batch-size: 8
input_size: [3, 32, 32]
mean: [0.5, 0.4, 0.3]
metric: [cka, cosine]
pair: {stem: body}
positions: all
strict: true
cuts: false
"""
    params = parsed(command, "m.pt", "--batch-size", "4", "--config", config(tmp_path, text))
    assert (params["samples"], params["batch_size"]) == (64, 4)
    assert (params["input_size"], params["mean"]) == ((3, 32, 32), (0.5, 0.4, 0.3))
    assert (params["metric"], params["pairs"]) == (("cka", "cosine"), (("stem", "body"),))
    assert (params["positions"], params["strict"], params["cuts"]) == ("all", True, False)
    as_json = json.dumps({"samples": 64, "metric": "cka"})
    params = parsed(command, "m.pt", "--config", config(tmp_path, as_json, "o.json"))
    assert (params["samples"], params["metric"]) == (64, ("cka",))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("samples: 1", r"samples: .*at least 2, not 1"),
        ("samples: many", r"samples: .*whole number"),
        ("samples: true", "samples takes a value"),
        ("strict: 3", "strict takes true or false"),
        ("heads: half", "no option 'heads'"),
        ("input_size: [3, x]", "not a size"),
        ("[1, 2]", "holds no options"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_file(tmp_path: Path, text: str, words: str) -> None:
    command, _ = command_of("analyze")
    with pytest.raises(TsdistillError, match=words) as caught:
        parsed(command, "m.pt", "--config", config(tmp_path, text))
    assert "options.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["plugin: mine.py", "trust: true", "arch: mine.py:net", "arch: mine:net", "example_input: a.py:x"]
)
def test_a_file_cannot_ask_for_code_to_be_run(tmp_path: Path, text: str) -> None:
    command, _ = command_of("analyze")
    with pytest.raises(TsdistillError, match="command line"):
        parsed(command, "m.pt", "--config", config(tmp_path, text))
    assert parsed(command, "m.pt", "--config", config(tmp_path, "arch: timm:resnet18\ntrust: false"))


def test_training_options_without_a_flag_come_from_the_file_too(tmp_path: Path) -> None:
    command, _ = command_of("train")
    text = "momentum: 0.5\nepochs: 3\ndata: x.npz\noutput: run\nloss: {cross-entropy: 2}\n"
    ctx = command.make_context("train", ["m.pt", "--config", config(tmp_path, text)])
    assert (ctx.params["data"], ctx.params["out"], ctx.params["epochs"]) == ("x.npz", "run", None)
    with ctx:
        assert file_options() == {"momentum": 0.5, "epochs": 3, "loss": {"cross-entropy": 2.0}}


@pytest.mark.parametrize("names", PATHS, ids=" ".join)
def test_help_is_grouped_and_its_examples_are_commands(
    names: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config(tmp_path, "epochs: 3\n", "run.yaml")
    command, ctx = command_of(*names)
    assert isinstance(command, Command)
    assert len(command.examples) == 3
    text = command.get_help(ctx)
    assert "Examples:" in text
    for line, _ in command.examples:
        words = line.split(" | ")[0].split()
        words = words[words.index("tsdistill") + 1 :]
        assert tuple(words[: len(names)]) == names
        command.make_context("it", words[len(names) :])
    if names[0] == "prune":
        headings = ["Budget:", "What may be cut:", "Re-alignment:", "Plan:", "Data:", "Model:", "Output:"]
        places = [text.index(f"\n{heading}") for heading in headings]
        assert places == sorted(places)
