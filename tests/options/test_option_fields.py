"""Options by name, of the right type and in their range; one line for anything else."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tsdistill as tsd
from tsdistill import options
from tsdistill.errors import TsdistillError
from tsdistill.options import DataOptions, InputOptions, RealignOptions, SelectionOptions, TrainOptions
from tsdistill.options.option_fields import OptionSet, flag, known_fields, option, spelled, written

CLASSES = [getattr(options, name) for name in options.__all__]
FIELDS = [(cls, known) for cls in CLASSES for known in known_fields(cls).values()]


@pytest.mark.parametrize("cls", CLASSES)
def test_defaults_are_taken_and_a_mapping_is_as_good_as_an_object(cls: type[OptionSet]) -> None:
    assert cls.of(None) == cls() == cls.of({}) == cls.of(cls())
    assert cls().changed() == {}
    with pytest.raises(FrozenInstanceError):
        setattr(cls(), next(iter(known_fields(cls))), 3)


@pytest.mark.parametrize(("cls", "known"), FIELDS, ids=lambda each: getattr(each, "name", ""))
def test_every_option_says_what_it_means_and_takes_its_range_alone(cls: type[OptionSet], known: Any) -> None:
    field = known.field
    assert field.help.endswith(".")
    wrong: list[Any] = []
    if field.least is not None:
        wrong.append(field.least - 1)
    if field.most is not None:
        wrong.append(field.most + 1)
    if field.above is not None:
        wrong.append(field.above)
    if field.below is not None:
        wrong.append(field.below)
    if float in known.scalars:
        wrong += [float("nan"), float("inf")]
    if known.scalars and str not in known.scalars:
        wrong.append("three")
    if field.choices:
        wrong.append("no such choice")
    for value in wrong:
        for make in (lambda given: cls(**given), lambda given: cls.of(given)):
            with pytest.raises(TsdistillError) as caught:
                make({known.name: value})
            assert str(caught.value).startswith(f"{known.name} ")


@given(st.integers(-(10**6), 10**6))
def test_numbers_within_the_range_are_kept_and_others_refused(value: int) -> None:
    if value >= 1:
        assert SelectionOptions(round_to=value).round_to == value
        return
    with pytest.raises(TsdistillError, match=f"round_to .*1.*{value}"):
        SelectionOptions(round_to=value)


def test_the_option_is_named_as_the_user_writes_it() -> None:
    with pytest.raises(TsdistillError, match=r"^round_to "):
        SelectionOptions(round_to=0)
    with spelled(flag), pytest.raises(TsdistillError, match=r"^--round-to "):
        SelectionOptions(round_to=0)


@pytest.mark.parametrize(
    ("name", "value", "in_python", "on_command_line"),
    [
        ("min_nodes", None, "min_nodes", "--min-nodes"),
        ("pairs", None, "pairs", "--pair"),
        ("trust", True, "trust=True", "--trust"),
        ("dynamic_batch", False, "dynamic_batch=False", "--static-batch"),
        ("loss", "mse", "loss='mse'", "--loss mse"),
    ],
)
def test_an_option_with_a_value(
    name: str, value: bool | str | None, in_python: str, on_command_line: str
) -> None:
    assert written(name, value) == in_python
    with spelled(flag):
        assert written(name, value) == on_command_line
    assert written(name, value) == in_python


def test_the_flags_of_a_field_are_those_that_messages_name() -> None:
    for _, known in FIELDS:
        assert not known.field.flags or flag(known.name) in known.field.flags


def test_no_message_names_an_option_in_both_forms() -> None:
    both = re.compile(r"--[a-z-]+[^()]*\([a-z_]+=")
    package = Path(tsd.__file__).parent
    assert [path for path in package.rglob("*.py") if any(map(both.search, _texts(path)))] == []


def _texts(path: Path) -> list[str]:
    """The texts within a file's code; no docstrings."""
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    texts = [node for node in nodes if isinstance(node, ast.JoinedStr | ast.Constant)]
    return [ast.unparse(node) for node in texts if id(node) not in docstrings]


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(TsdistillError, match=r"'bath_size'.*batch_size"):
        DataOptions.of({"bath_size": 3})
    with pytest.raises(TsdistillError, match=r"run\.yaml.*'epoch'"):
        TrainOptions.of({"epoch": 3}, "run.yaml")
    with pytest.raises(TsdistillError, match=r"DataOptions.*int"):
        DataOptions.of(3)  # type: ignore[arg-type]


def test_values_become_the_type_of_the_field() -> None:
    assert type(TrainOptions(lr=1).lr) is float
    assert type(DataOptions.of({"samples": np.int64(3)}).samples) is int
    assert DataOptions.of({"batch-size": 4}).batch_size == 4
    with pytest.raises(TsdistillError, match="joint"):
        RealignOptions(joint=1)  # type: ignore[arg-type]


def test_a_tuple_has_items_of_one_type_within_the_range() -> None:
    @dataclass(frozen=True)
    class Base(OptionSet):
        sizes: tuple[int, ...] = option((1, 2), "Sizes.", above=0)

    @dataclass(frozen=True)
    class Other(Base):
        sizes: tuple[int, ...] = (3,)

    assert Other().sizes == (3,)
    assert known_fields(Other)["sizes"].field is known_fields(Base)["sizes"].field
    assert Other.of({"sizes": [4, np.int64(5)]}).sizes == (4, 5)
    for wrong in ((), 4, "4", (4, 0), (4, 0.5)):
        with pytest.raises(TsdistillError, match="sizes"):
            Other(sizes=wrong)  # type: ignore[arg-type]


def test_options_of_inputs_are_handed_on() -> None:
    both = DataOptions(samples=3, input_size=(3, 8, 8))
    assert InputOptions.of(both) == InputOptions(input_size=(3, 8, 8))
    assert both.look == InputOptions(input_size=(3, 8, 8))
    assert both.reading == DataOptions(samples=3)


def test_an_option_that_has_no_use_is_refused() -> None:
    with pytest.raises(TsdistillError, match="augment"):
        DataOptions(augment="standard").refuse("an evaluation", "augment")
    DataOptions(samples=3).refuse("an evaluation", "augment")


FUNCTIONS = [
    "analyze", "analyze_training", "compare", "distill", "evaluate", "example_input", "export", "load",
    "open_data", "plan", "predict_cuts", "prune", "prune_result", "prune_to_drop", "save", "sweep", "train",
]  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_signatures_are_short_and_say_everything(name: str) -> None:
    parameters = inspect.signature(getattr(tsd, name)).parameters.values()
    assert all(p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters)
    assert len(parameters) <= 12


def test_importing_the_options_imports_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, tsdistill.options, tsdistill.cli.main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_options_of_another_kind_are_refused() -> None:
    with pytest.raises(TsdistillError, match="SelectionOptions"):
        SelectionOptions.of(DataOptions(samples=3))  # type: ignore[arg-type]
