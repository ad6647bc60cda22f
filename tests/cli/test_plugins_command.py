import json
from pathlib import Path

import pytest

from tsdistill.plugins import KINDS

from .conftest import Run, one_line


def test_every_kind_is_listed(fork: Run) -> None:
    done = fork("plugins")
    assert done.returncode == 0, done.stderr
    for kind in KINDS:
        assert kind in done.stdout
    assert "correlation" in done.stdout


def test_json(fork: Run) -> None:
    offers = json.loads(fork("plugins", "--json", "-").stdout)
    assert offers["data source"]["fashion-mnist"].startswith("tsdistill.data")
    assert offers["model source"]["timm"].startswith("tsdistill.models")


PLUGIN = """
from tsdistill import hookimpl

def half(x, generator):
    "Half of each sample."
    return x / 2

@hookimpl
def register_augmentations(register):
    register("half", half)
"""


def test_a_plugin_from_a_file_is_used_and_listed(fork: Run, work: Path) -> None:
    (work / "halves.py").write_text(PLUGIN)
    found = json.loads(fork("plugins", "--plugin", "halves.py", "--json", "-").stdout)
    assert "half" in found["augmentation"]
    assert found["plugins"] == [
        {"title": "plugin halves.py", "names": {"augmentation": ["half"]}, "problem": None}
    ]
    arguments = ("analyze", "networks.py:vectors", "--input-size", "12", "--trust", "--data", "vectors.npz")
    done = fork(*arguments, "--augment", "half", "--plugin", "halves.py")
    assert done.returncode == 0, done.stderr
    one_line(fork(*arguments, "--augment", "half"), "half")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("x = 1", ["registers nothing", "register_alignment_metrics"]),
        (PLUGIN.replace("@hookimpl", ""), ["register_augmentations", "@hookimpl"]),
        (
            PLUGIN.replace("def register_augmentations", "def register_augmentation"),
            ["register_augmentations?"],
        ),
        ("def register_metrics(register): ...", ["did you mean register_", "metrics"]),
        (PLUGIN.replace('register("half", half)', "pass"), ["registers nothing"]),
        (PLUGIN.replace('"half", half', '"standard", half'), ["standard"]),
        ("1 / 0", ["ZeroDivisionError"]),
        (PLUGIN.replace('"half", half', "half"), ["register_augmentations() fails"]),
    ],
)
def test_a_plugin_that_gives_nothing_says_so(fork: Run, work: Path, code: str, words: list[str]) -> None:
    (work / "nothing.py").write_text(code)
    one_line(fork("plugins", "--plugin", "nothing.py"), "nothing.py", *words)
