import subprocess
import sys
from types import SimpleNamespace

import pytest

from tsdistill import plugins
from tsdistill.errors import TsdistillError
from tsdistill.plugins import LazyCommand, Registry, hookimpl, manager


class Offers:
    """A plugin that registers augmentations."""

    def __init__(self, **things):
        self.things = things

    @hookimpl
    def register_augmentations(self, register):
        for name, thing in self.things.items():
            register(name, thing)


def registry(monkeypatch, *loaders):
    """A registry without built-ins, with one entry point for each loader."""
    entries = [
        SimpleNamespace(name=f"p{i}", value=f"m{i}", dist=None, load=loader)
        for i, loader in enumerate(loaders)
    ]
    monkeypatch.setattr(manager, "entry_points", lambda group: entries if group == "tsdistill" else [])
    return Registry(builtins={})


def test_builtin_sources_are_there():
    assert {"timm", "torchvision", "python"} <= set(plugins.names("model source"))


def test_items_of_a_plugin(monkeypatch):
    found = registry(monkeypatch, lambda: Offers(b=2, a=1))
    assert found.names("augmentation") == ["a", "b"]
    assert found.get("augmentation", "b") == 2
    assert found.items("data source") == {}


def test_unknown_name_says_the_nearest(monkeypatch):
    found = registry(monkeypatch, lambda: Offers(standard=1, none=2))
    with pytest.raises(TsdistillError, match=r"'standart'.* standard\b"):
        found.get("augmentation", "standart")
    with pytest.raises(TsdistillError, match="none, standard"):
        found.get("augmentation", "xyzzy")


def test_unknown_kind():
    with pytest.raises(TsdistillError, match="alignment metric"):
        plugins.items("colour")


def test_same_name_twice_names_both(monkeypatch):
    found = registry(monkeypatch, lambda: Offers(a=1), lambda: Offers(a=2))
    with pytest.raises(TsdistillError, match=r"'a'.*'p0'.*'p1'"):
        found.items("augmentation")


def broken_import():
    raise ImportError("no module named\nacme")


@pytest.mark.parametrize(
    "loader",
    [
        broken_import,
        lambda: Offers(**{"": 1}),
        lambda: SimpleNamespace(register_augmentations=hookimpl(lambda x: 1)),
    ],
    ids=["import", "name", "signature"],
)
def test_broken_plugin_is_one_warning_and_the_rest_goes_on(monkeypatch, caplog, loader):
    found = registry(monkeypatch, loader, lambda: Offers(good=1))
    assert found.names("augmentation") == ["good"]
    assert [record.name for record in caplog.records] == ["tsdistill.plugins.manager"]
    message = caplog.records[0].getMessage()
    assert "plugin 'p0'" in message
    assert "\n" not in message


@pytest.mark.parametrize(("value", "names"), [("", []), ("p1", ["b"]), ("p0, p1", ["a", "b"])])
def test_environment_limits_plugins(monkeypatch, value, names):
    monkeypatch.setenv("TSDISTILL_PLUGINS", value)
    found = registry(monkeypatch, lambda: Offers(a=1), lambda: Offers(b=1))
    assert found.names("augmentation") == names


def test_modules_of_commands_are_imported_and_no_others_where_commands_are_asked_for(monkeypatch):
    command = LazyCommand("nowhere:layers", "Count them.")

    class Registers:
        register_commands = staticmethod(hookimpl(lambda register: register("layers", command)))

    groups = {
        "tsdistill.commands": [SimpleNamespace(name="a", value="a", dist=None, load=Registers)],
        "tsdistill": [SimpleNamespace(name="b", value="b", dist=None, load=broken_import)],
    }
    monkeypatch.setattr(manager, "third_party", lambda group: groups[group])
    assert Registry(builtins={}).items("command") == {"layers": command}


@pytest.mark.parametrize(
    ("hook", "thing"),
    [("register_importance", 3), ("register_importance", None), ("register_commands", "a:b")],
)
def test_what_cannot_be_used_is_refused_when_it_is_registered(tmp_path, hook, thing):
    file = tmp_path / "mine.py"
    file.write_text(
        f"from tsdistill.plugin_api import hookimpl\n\n@hookimpl\ndef {hook}(register):\n"
        f"    register('useless', {thing!r})\n"
    )
    with pytest.raises(TsdistillError, match=rf"mine\.py.*{hook}.*useless"):
        Registry(builtins={}).load(str(file))


def test_importing_plugins_imports_no_heavy_library():
    code = "import sys, tsdistill.plugins; print([m for m in ('torch', 'numpy', 'timm') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_the_origin_of_a_name(monkeypatch):
    found = registry(monkeypatch, lambda: Offers(a=1))
    assert found.origin("augmentation", "a") == "plugin 'p0'"
    assert plugins.origin("augmentation", "none") == "tsdistill"
    with pytest.raises(TsdistillError, match="'x'"):
        found.origin("augmentation", "x")


_HEAD = "from tsdistill.plugin_api import hookimpl\n\n@hookimpl\ndef register_augmentations(register):\n    "


@pytest.mark.parametrize(
    "fault",
    [
        "raise SystemExit(0)",
        _HEAD + "raise SystemExit(0)",
        _HEAD + "1 / 0",
        _HEAD + "register('a', 2)",
        "x = 1",
    ],
    ids=["exits", "hook exits", "hook raises", "taken", "nothing"],
)
def test_a_file_that_is_refused_leaves_the_registry_as_it_was_and_loads_once_mended(
    monkeypatch, tmp_path, fault
):
    found = registry(monkeypatch, lambda: Offers(a=1))
    file = tmp_path / "mine.py"
    file.write_text(fault)
    for _ in range(2):
        with pytest.raises(TsdistillError, match=r"mine\.py"):
            found.load(str(file))
        assert found.items("augmentation") == {"a": 1}
    file.write_text(_HEAD + "register('longer_name', 3)  # other length, other bytecode")
    assert found.load(str(file)).names == {"augmentation": ("longer_name",)}
    assert found.items("augmentation") == {"a": 1, "longer_name": 3}
