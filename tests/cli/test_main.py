import contextlib
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import tsdistill
from tsdistill.cli import main

from .conftest import Run, one_line

COMMAND = '''
import os, signal
import click

@click.command()
@click.argument("what")
def shout(what):
    """SHOUT-HELP"""
    if what == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
        while True:
            pass
    if what == "fault":
        raise RuntimeError("two\\nlines")
    click.echo(what.upper())

print("imported shouting")
'''

HOOKS = """
from tsdistill.plugin_api import LazyCommand, hookimpl

@hookimpl
def register_commands(register):
    register("shout", LazyCommand("shouting:shout", "Say it."))
    register("broken", LazyCommand("no_such_module:command", ""))
    register("number", LazyCommand("shouting:os", ""))
"""

ENTRY_POINTS = """
[tsdistill.commands]
hooks = shouting_hooks
former = shouting:shout
missing = no_such_hooks
leaving = leaving_hooks
"""

INSTALLED = "hooks,former,missing,leaving"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder to put on the path, with an installed package that brings commands."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "shouting.py").write_text(COMMAND)
    (folder / "shouting_hooks.py").write_text(HOOKS)
    (folder / "leaving_hooks.py").write_text("raise SystemExit(3)")
    info = folder / "shouting-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shouting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return os.pathsep.join([str(folder), str(Path(tsdistill.__file__).parents[1])])


def processor_seconds() -> float:
    """What finished child processes have used: other load on the machine does not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_is_quick_and_imports_little(run: Run) -> None:
    code = (
        "import sys, tsdistill.cli.main as m\n"
        "try:\n    m.main(['--help'])\n"
        "except SystemExit:\n    pass\n"
        "heavy = {'torch', 'timm', 'numpy', 'rich', 'pydantic', 'tsdistill.cli.analyze_command'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(str(sorted(heavy)) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    times = []
    for _ in range(3):
        start = processor_seconds()
        done = run("--help")
        times.append(processor_seconds() - start)
    assert min(times) < 0.5
    assert "analyze" in done.stdout
    assert done.stderr == ""


def test_console_script_and_module_are_the_same(run: Run) -> None:
    script = Path(sys.executable).parent / "tsdistill"
    done = subprocess.run([str(script), "--version"], capture_output=True, text=True)
    assert done.stdout == run("--version").stdout == f"tsdistill, version {tsdistill.__version__}\n"


@pytest.mark.parametrize("way", [["-m", "tsdistill"], ["-c", "from tsdistill.__main__ import main; main()"]])
def test_an_interrupt_during_the_first_imports_ends_quietly(tmp_path: Path, way: list[str]) -> None:
    (tmp_path / "click.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    path = os.pathsep.join([str(tmp_path), str(Path(tsdistill.__file__).parents[1])])
    process = subprocess.Popen(
        [sys.executable, *way, "--version"],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=50) == ("", "")
    assert process.returncode == 130


def test_no_arguments_shows_help(run: Run) -> None:
    done = run()
    assert done.returncode == 0
    assert done.stdout == run("--help").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["frobnicate"], ["frobnicate"]),
        (["analyze"], ["MODEL"]),
        (["analyze", "timm:resnet18", "--smaples", "3"], ["--smaples", "--samples"]),
        (["analyze", "timm:resnet18", "--samples", "many"], ["--samples", "many"]),
        (["analyze", "timm:resnet18", "--samples", "0"], ["--samples"]),
        (["analyze", "timm:resnet18", "--input-size", "3xbig"], ["3xbig"]),
        (["analyze", "timm:resnet18", "--mean", "a,b"], ["a,b"]),
        (["analyze", "timm:resnet18", "--json", "no/such/folder/x.json"], ["no/such/folder", "create it"]),
        (["analyze", "timm:resnet18", "--json", "empty"], ["folder"]),
        (["networks.py"], ["networks.py", "tsdistill analyze networks.py"]),
    ],
)
def test_wrong_usage_is_one_line(run: Run, arguments: list[str], words: list[str]) -> None:
    one_line(run(*arguments), *words)


def test_third_party_commands_load_by_name(run: Run, site: str) -> None:
    listed = run("--help", PYTHONPATH=site, TSDISTILL_PLUGINS=INSTALLED)
    assert "Commands from plugins" in listed.stdout
    assert {"shout", "broken", "number", "former"} <= set(listed.stdout.split())
    assert "Say it." in listed.stdout
    assert listed.returncode == 0
    assert "'missing'" in listed.stderr
    assert "'leaving'" in listed.stderr
    assert listed.stderr.count("\n") == 2
    assert "SHOUT-HELP" not in listed.stdout
    assert "imported shouting" not in listed.stdout
    for name in ("shout", "former"):
        done = run(name, "hello", PYTHONPATH=site, TSDISTILL_PLUGINS=INSTALLED)
        assert done.stdout.splitlines() == ["imported shouting", "HELLO"], done.stderr


def test_third_party_commands_that_fail(run: Run, site: str) -> None:
    one_line(run("broken", PYTHONPATH=site, TSDISTILL_PLUGINS="hooks"), "broken", "no_such_module")
    done = run("number", PYTHONPATH=site, TSDISTILL_PLUGINS="hooks")
    assert done.returncode == 2
    assert "not a click command" in done.stderr


def test_own_commands_cannot_be_replaced(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(HOOKS.replace('"shout"', '"analyze"'))
    one_line(run("--plugin", str(tmp_path / "mine.py"), "--help"), "mine.py", "'analyze'")


def test_a_command_from_a_file(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(COMMAND + HOOKS.replace('"shouting:shout"', 'f"{__name__}:shout"'))
    assert run("--plugin", str(file), "shout", "hello").stdout.splitlines()[-1] == "HELLO"
    assert "Say it." in run("--plugin", str(file), "--help").stdout


def test_a_fault_is_one_line_and_debug_shows_the_traceback(run: Run, site: str) -> None:
    done = run("shout", "fault", PYTHONPATH=site, TSDISTILL_PLUGINS="hooks")
    assert done.returncode == 1
    assert done.stderr.startswith("tsdistill: unexpected RuntimeError: two lines (")
    assert done.stderr.count("\n") == 1
    assert (
        "Traceback"
        in run("shout", "fault", PYTHONPATH=site, TSDISTILL_PLUGINS="hooks", TSDISTILL_DEBUG="1").stderr
    )
    assert "Traceback" in run("shout", "fault", "--debug", PYTHONPATH=site, TSDISTILL_PLUGINS="hooks").stderr
    assert "Traceback" in run("plugins", "--plugin", "nowhere.py", "--debug").stderr


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_interrupt(run: Run, site: str) -> None:
    done = run("shout", "interrupt", PYTHONPATH=site, TSDISTILL_PLUGINS="hooks")
    assert done.returncode == 130
    assert done.stderr.strip() == "tsdistill: interrupted"


def test_an_error_that_follows_a_swallowed_interrupt_is_an_interrupt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A library that is interrupted while it is imported may go on half imported."""

    def half_imported(**_: object) -> None:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise RecursionError("maximum recursion depth exceeded")

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(main.cli, "main", half_imported)
    with pytest.raises(SystemExit) as end:
        main.main([])
    assert end.value.code == 130
    assert "RecursionError" not in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before
