"""What the installation has is said on the terminal and as JSON."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import pytest

from tsdistill import installation

from .conftest import Run

BROKEN = "raise RuntimeError('broken on purpose')\n"


def test_versions_devices_and_extras_are_shown(fork: Run) -> None:
    done = fork("doctor")
    assert done.returncode == 0, done.stderr
    for word in ("torch", metadata.version("torch"), "cpu", "threads", "hf", "export"):
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_json(fork: Run, work: Path) -> None:
    report = json.loads(fork("doctor", "--json", "-").stdout)
    assert report["kind"] == "installation"
    assert report["packages"]["torch"] == metadata.version("torch")
    assert report["devices"][0] == "cpu"
    assert report["plugins"] == []


def test_what_an_extra_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = installation.version_of
    monkeypatch.setattr(installation, "version_of", lambda name: None if name == "onnx" else real(name))
    report = installation.installation()
    assert report.extras["export"] == ("onnx",)
    assert "onnx" not in report.packages
    assert not set(report.extras) & {"test", "dev"}


def test_requirements_are_read_from_the_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["torch>=2", "onnx>=1.17; extra == 'export'", 'lm-eval[hf]>=0.4; extra == "lm-eval"']
    lines += ["tsdistill[hf]; extra == 'test'", "pytest; extra == 'test'"]
    monkeypatch.setattr(metadata, "requires", lambda _: lines)
    assert installation.requirements() == (("torch",), {"export": ("onnx",), "lm-eval": ("lm-eval",)})

    def missing(_: str) -> list[str]:
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "requires", missing)
    assert installation.requirements() == ((), {})


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_HOME", "/somewhere")
    report = installation.installation()
    assert "hf_secret" not in json.dumps(report.to_dict())
    assert report.variables["HF_HOME"] == "/somewhere"
    assert report.cache == "/somewhere/hub"
