import math
from typing import Any

import pytest
import torch

from tsdistill.errors import TsdistillError
from tsdistill.lab import run
from tsdistill.lab.experiments import strong_first, two_layer
from tsdistill.lab.figures import deep_figures, strong_first_figures, two_layer_figures

SMALL: dict[str, Any] = {"inputs": 10, "outputs": 6, "seeds": 6}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cells")
    told: list[Any] = []
    options: dict[str, Any] = {
        **SMALL,
        "nodes": (4,),
        "over": (1, 5),
        "decay": (0.0, 1.0),
        "steps": 4000,
        "rate": 0.05,
    }

    def again(**changed):
        told.clear()
        return run(
            "two-layer", keep=folder, tell=lambda *each: told.append(each), settings={**options, **changed}
        ), told

    return again(), again


def finite(value):
    if isinstance(value, dict):
        return all(finite(each) for each in value.values())
    if isinstance(value, list | tuple):
        return all(finite(each) for each in value)
    return value is None or isinstance(value, str | bool) or math.isfinite(value)


def test_two_layer_students_recover_their_teachers(swept):
    outcome, _ = swept[0]
    everyone, _, more, strong = [claim.held for claim in outcome.claims]
    assert everyone
    assert more
    assert strong
    wide = outcome.data["cells"][1]
    assert min(wide["late"][0]) >= 0.8
    assert wide["loss"][0][-1] < 1e-3 < wide["loss"][0][0]
    assert wide["order"][1] > 0.5 > wide["order"][0]
    assert finite(outcome.to_dict())


def test_two_layer_goes_on_where_it_was_stopped(swept):
    (outcome, _), again = swept
    repeated, told = again()
    assert repeated.data == outcome.data
    assert all(done % len(outcome.data["at"]) == 0 for _, done, _ in told)
    more, told = again(over=(1, 5, 2))
    assert [each["over"] for each in more.data["cells"]] == [1, 5, 2]
    assert more.data["cells"][:2] == outcome.data["cells"]
    assert told[-1][1] == told[-1][2]


def test_two_layer_is_the_same_for_a_seed():
    def small(seed):
        return run(
            "two-layer",
            settings={**SMALL, "nodes": (2,), "over": (2,), "decay": (1.0,), "steps": 40, "seed": seed},
        ).data

    assert small(3) == small(3)
    assert small(3) != small(4)


def test_two_layer_pairs_students_with_their_teachers():
    settings = two_layer.TwoLayer(**SMALL, nodes=(3,), over=(2,), decay=(0.0, 2.0), seed=1)
    teachers, students = two_layer.networks_of(settings, 3, 2, {})
    assert teachers.count == students.count == 12
    assert torch.equal(teachers.fan_in[2], teachers.fan_in[8])
    assert torch.equal(students.fan_in[2], students.fan_in[8])
    torch.testing.assert_close(teachers.fan_out[8].norm(dim=1), torch.tensor([1, 1 / 4, 1 / 9]))


def test_two_layer_says_what_it_cannot_say():
    outcome = run("two-layer", settings={**SMALL, "nodes": (3,), "over": (2,), "decay": (0.0,), "steps": 5})
    assert [claim.held for claim in outcome.claims] == [None, None, None, None]


@pytest.mark.parametrize("name", ["two-layer", "strong-first", "deep"])
def test_what_does_not_fit_is_refused_before_it_is_made(name):
    with pytest.raises(TsdistillError, match="--seeds"):
        run(name, quick=True, settings={"seeds": 10**8})


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("two-layer", {"inputs": 0}, "inputs.* 0"),
        ("two-layer", {"decay": (1.0, -0.5)}, "decay.* -0.5"),
        ("two-layer", {"early": 1.5}, "early.* 1.5"),
        ("strong-first", {"decay": ()}, "decay"),
        ("deep", {"widths": (5, 0)}, "widths.* 0"),
    ],
)
def test_settings_that_make_no_sense_are_one_line(name, given, said):
    with pytest.raises(TsdistillError, match=said):
        run(name, quick=True, settings=given)


def test_strong_nodes_are_first_and_gather_more():
    outcome = run(
        "strong-first",
        settings={
            **{**SMALL, "seeds": 10},
            "nodes": 4,
            "over": 6,
            "decay": (0.0, 1.5),
            "steps": 4000,
            "rate": 0.05,
        },
    )
    assert [claim.held for claim in outcome.claims[:2]] == [True, True]
    even, steep = outcome.data["decays"]
    assert abs(even["order"]) < 0.5 < steep["order"]
    assert steep["owned"][0] > steep["owned"][-1]
    assert finite(outcome.to_dict())
    assert set(strong_first_figures.draw(outcome)) == {"strong-first", "strong-first-gathering"}


def test_reached_is_the_first_step_and_never_is_later_than_the_last():
    matched = torch.tensor([[[0.1, 0.2, 0.0]], [[0.95, 0.5, 0.1]], [[0.99, 0.92, 0.3]]])
    (reached,) = strong_first._reached((0, 10, 20), matched).tolist()
    assert reached[:2] == [10, 20]
    assert reached[2] > 20


def test_a_lone_node_has_no_order():
    outcome = run("strong-first", settings={**SMALL, "nodes": 1, "over": 2, "decay": (0.0, 1.0), "steps": 10})
    assert [claim.held for claim in outcome.claims] == [None, None, None]


def test_deep_students_specialise_and_go_on(tmp_path):
    options: dict[str, Any] = {
        "widths": (4, 5),
        "over": 4,
        "inputs": 8,
        "outputs": 10,
        "steps": 2000,
        "batch": 16,
        "rate": 0.03,
    }
    outcome = run("deep", keep=tmp_path, settings=options)
    first, last = outcome.data["moments"][0], outcome.data["moments"][-1]
    assert last["loss"][0] < 0.1 * first["loss"][0]
    assert all(b["matched"] > a["matched"] for a, b in zip(first["layers"], last["layers"], strict=True))
    assert outcome.claims[2].held
    parts = sorted(tmp_path.iterdir())
    next(part for part in parts if part.name.startswith("deep-2000-")).unlink()
    assert run("deep", keep=tmp_path, settings=options).data == outcome.data
    assert set(deep_figures.draw(outcome)) == {"deep", "deep-alignment"}
    assert finite(outcome.to_dict())


def test_two_layer_is_drawn_from_its_data(swept):
    (outcome, _), _ = swept
    figures = two_layer_figures.draw(outcome)
    assert set(figures) == {f"two-layer-{name}-4" for name in ("recovery", "curve", "convergence")}
    drawn: list[Any] = [line.get_ydata() for line in figures["two-layer-recovery-4"].axes[0].get_lines()]
    assert any(list(line) == outcome.data["cells"][1]["late"][0] for line in drawn)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["two-layer", "strong-first"])
def test_quick_versions_show_what_is_claimed(name):
    outcome = run(name, quick=True)
    assert [claim.held for claim in outcome.claims] == [True] * len(outcome.claims)
