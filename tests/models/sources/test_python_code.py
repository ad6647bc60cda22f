import sys

import pytest
import torch

from tsdistill.errors import TsdistillError
from tsdistill.models import info_of, load

CODE = """
from torch import nn
from sibling import WIDTH

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2))

def build():
    return Net()

def fails():
    raise ValueError("no\\nluck")

def other():
    return 3

constant = 5
"""


@pytest.fixture
def code(tmp_path):
    (tmp_path / "sibling.py").write_text("WIDTH = 3\n")
    (tmp_path / "net.py").write_text(CODE)
    yield tmp_path / "net.py"
    sys.modules.pop("sibling", None)


@pytest.mark.parametrize("factory", ["build", "Net"])
def test_file(code, factory):
    model = load(f"{code}:{factory}")
    assert model(torch.ones(1, 4)).shape == (1, 2)
    assert not model.training
    assert info_of(model).arch == f"{code}:{factory}"
    assert info_of(model).input is None
    assert str(code.parent) not in sys.path


def test_package_in_the_current_folder(code, monkeypatch):
    monkeypatch.chdir(code.parent)
    (code.parent / "own_nets").mkdir()
    (code.parent / "own_nets" / "__init__.py").write_text("")
    (code.parent / "own_nets" / "small.py").write_text(
        "from torch import nn\n\ndef make():\n    return nn.ReLU()\n"
    )
    assert type(load("own_nets.small:make")).__name__ == "ReLU"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{}:nothing", "has no nothing"),
        ("{}:fails", r"fails\(\) failed with ValueError: no luck"),
        ("{}:other", r"other\(\) returned int, not an nn.Module"),
        ("{}:constant", "constant is not callable"),
        ("{}x.py:build", "there is no file"),
        ("no_such_package.at_all:build", "importing no_such_package.at_all failed"),
        ("no_such_thing", "no such file"),
        ("resnet18", "did you mean timm:resnet18"),
    ],
)
def test_one_line_errors(code, spec, message):
    with pytest.raises(TsdistillError, match=message) as caught:
        load(spec.format(code))
    assert "\n" not in str(caught.value)


def test_file_that_does_not_import(tmp_path):
    (tmp_path / "bad.py").write_text("import no_such_module_anywhere\n")
    with pytest.raises(TsdistillError, match="ModuleNotFoundError"):
        load(f"{tmp_path / 'bad.py'}:build")


@pytest.mark.parametrize("code", ["raise SystemExit(0)", "def make():\n    raise SystemExit(0)"])
def test_code_that_ends_the_program_is_an_error(tmp_path, code):
    file = tmp_path / "model.py"
    file.write_text(code)
    with pytest.raises(TsdistillError, match="SystemExit"):
        load(f"{file}:make")
