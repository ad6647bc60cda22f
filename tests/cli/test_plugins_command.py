import json

from tsdistill.plugins import KINDS

from .conftest import Run


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
