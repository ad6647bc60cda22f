"""The page in a real browser: Debian's Chromium, headless, without a network."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.report.made import made_history, made_report, renamed
from tests.report.opened import Opened, expected, leaving, open_page
from tsdistill.alignment import AlignmentReport, Thresholds
from tsdistill.alignment.history import AlignmentHistory
from tsdistill.report.page import save_page

pytestmark = pytest.mark.system("browser")

HOSTILE = "</script><img src=http://127.0.0.1:9/x onerror=alert(1)><b>"
LONG = "blocks.3.inverted_residual_with_a_long_name.conv_pointwise_linear"
PLOTS = ("curve", "heat", "counts", "ladder")
TILES = ("teacher-aligned", "aligned-nodes", "candidates", "params-saved", "macs-saved")
Open = Callable[..., Opened]


@pytest.fixture(scope="module")
def show(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    """Open a report, once; at the end nothing may have gone wrong, and nothing may have been asked for."""
    opened: list[Opened] = []
    folder = tmp_path_factory.mktemp("pages")

    def go(report: AlignmentReport, history: AlignmentHistory | None = None) -> Opened:
        shown = open_page(browser, save_page(report, folder / f"report{len(opened)}.html", history))
        opened.append(shown)
        return shown

    yield go
    for shown in opened:
        shown.page.close()


@pytest.fixture(autouse=True)
def _nothing_goes_wrong(request: pytest.FixtureRequest) -> Iterator[None]:
    """No message on the console, no dialog, and no request but for the file itself, after every test."""
    yield
    pages = [value for value in request.node.funcargs.values() if isinstance(value, Opened)]
    assert pages
    for shown in pages:
        assert shown.errors == []
        assert [url for url in shown.requests if not url.startswith(("file://", "data:"))] == []


@pytest.fixture(scope="module")
def made() -> AlignmentReport:
    return made_report()


@pytest.fixture(scope="module")
def made_page(show: Open, made: AlignmentReport) -> Opened:
    return show(made, made_history())


@pytest.fixture
def shown(made_page: Opened) -> Opened:
    """The page of `made` as it opens."""
    page = made_page.page
    page.set_viewport_size({"width": 1280, "height": 900})
    page.select_option("#group", "0")
    page.select_option("#metric", "correlation")
    page.select_option("#axis", "standardised_norm")
    page.uncheck("#log")
    page.click("#reset")
    page.mouse.move(0, 0)
    made_page.settle()
    return made_page


@pytest.fixture(scope="module")
def own() -> AlignmentReport:
    return made_report(own=True, thresholds=Thresholds(aligned=0.8765, redundant=0.45678))


@pytest.fixture(scope="module")
def own_page(show: Open, own: AlignmentReport) -> Opened:
    return show(own)


@pytest.fixture(scope="module")
def hostile_page(show: Open) -> Opened:
    report = renamed(made_report(), {"first": HOSTILE, "second": "__proto__", "third": LONG})
    path = f"/a/{'long' * 30}/path"
    return show(replace(report, arch=HOSTILE, data=path, notes=(HOSTILE,)))


@pytest.fixture(scope="module")
def analyzed_page(show: Open, report: AlignmentReport) -> Opened:
    return show(report)


def test_it_opens_with_the_report_s_own_figures(shown: Opened, made: AlignmentReport) -> None:
    tiles = shown.tiles()
    assert tiles == expected(made, 0.9, 0.99)
    assert (tiles["params-saved"], tiles["macs-saved"]) == (made.params_saved, made.macs_saved)
    assert tiles["teacher-aligned"] == sum(group.teacher_aligned for group in made.groups)
    assert shown.column("go") == [str(int(group.candidate.sum())) for group in made.groups]
    assert shown.column("beside") == ["11 of 12", "8 of 9", "–"]
    assert shown.plot("curve", "data.length") == 2
    assert all(shown.page.is_visible(f"#{name} .main-svg >> nth=0") for name in PLOTS)


def test_what_analyze_returns(analyzed_page: Opened, report: AlignmentReport) -> None:
    assert analyzed_page.tiles() == expected(report, 0.9, 0.99)


@pytest.mark.parametrize("keys", [("ArrowLeft",) * 3, ("PageDown",) * 2, ("Home",), ("End",)])
@pytest.mark.parametrize("name", ["aligned", "redundant"])
def test_sliders_count_what_python_counts(
    shown: Opened, made: AlignmentReport, name: str, keys: tuple[str, ...]
) -> None:
    shown.press(f"#{name}", *keys)
    value = float(shown.page.input_value(f"#{name}"))
    limits = {"aligned": 0.9, "redundant": 0.99}
    assert value != limits[name]
    limits[name] = value
    assert shown.tiles() == expected(made, limits["aligned"], limits["redundant"])
    assert float(shown.page.input_value(f"#{name}-exact")) == value
    assert shown.column("go") == [
        str(int(leaving(group, limits["redundant"]).sum())) for group in made.groups
    ]
    assert shown.plot("curve", "data[1].x.length") == int(leaving(made.groups[0], limits["redundant"]).sum())
    assert shown.plot("curve", "layout.shapes[0].x0") == limits["aligned"]
    shown.page.click("#reset")
    shown.settle()
    assert shown.tiles() == expected(made, 0.9, 0.99)


def test_an_exact_threshold_can_be_typed(shown: Opened, made: AlignmentReport) -> None:
    exact = float(np.sort(made.groups[0].leaving_r2)[20])
    shown.page.fill("#redundant-exact", repr(exact))
    shown.settle()
    assert shown.tiles() == expected(made, 0.9, exact)
    shown.page.fill("#redundant-exact", repr(float(np.nextafter(exact, 1))))
    shown.settle()
    assert shown.tiles() == expected(made, 0.9, float(np.nextafter(exact, 1)))
    shown.page.fill("#redundant-exact", "")
    shown.settle()
    assert shown.tiles() == expected(made, 0.9, float(np.nextafter(exact, 1)))


def test_without_a_teacher(own_page: Opened, own: AlignmentReport) -> None:
    counted = expected(own, 0.8765, 0.45678)
    assert own_page.tiles() == {name: counted[name] for name in TILES[1:]}
    assert "teacher node" not in own_page.page.inner_text("main")
    table = own_page.plot("heat", "data[0].z")
    assert all(table[i][i] is None for i in range(len(table)))


def test_groups_are_chosen_with_the_keyboard(shown: Opened, made: AlignmentReport) -> None:
    shown.press("#overview input:checked", "ArrowDown")
    assert shown.page.text_content("#detail-title") == "second"
    assert shown.page.input_value("#group") == "1"
    assert shown.page.locator("#nodes tbody tr").count() == 24
    shown.press("#group", "ArrowUp")
    assert shown.page.text_content("#detail-title") == "first"
    assert shown.page.is_disabled("#previous")
    shown.press("#next", "Enter")
    assert shown.page.is_checked("#overview input >> nth=1")
    outline = shown.page.eval_on_selector("#next", "(button) => getComputedStyle(button).outlineStyle")
    assert outline == "solid"


def test_a_group_without_a_partner_says_so(shown: Opened, made: AlignmentReport) -> None:
    shown.page.select_option("#group", "2")
    shown.settle()
    assert "no partner" in shown.page.text_content("#empty")
    assert shown.page.is_visible("#curve")
    assert not shown.page.is_visible("#card-heat")
    assert shown.plot("curve", "layout.xaxis.title.text") == "nodes, strong → weak"
    shown.page.select_option("#group", "0")
    shown.settle()
    assert not shown.page.is_visible("#empty")
    assert shown.page.is_visible("#card-heat .main-svg >> nth=0")


def test_metric_and_height_can_be_switched(shown: Opened, made: AlignmentReport) -> None:
    shown.page.select_option("#metric", "cosine")
    shown.settle()
    assert shown.tiles() == expected(made, 0.9, 0.99, "cosine")
    group = made.groups[0]
    order = [*shown.plot("curve", "data[0].customdata"), *shown.plot("curve", "data[1].customdata")]
    across = [*shown.plot("curve", "data[0].x"), *shown.plot("curve", "data[1].x")]
    assert sorted(order) == list(range(group.size))
    assert across == group.matches["cosine"].similarity[order].tolist()
    for name in ("strength", "sensitivity", "fan_out_norm", "standardised_norm"):
        shown.page.select_option("#axis", name)
        shown.settle()
        up = [*shown.plot("curve", "data[0].y"), *shown.plot("curve", "data[1].y")]
        order = [*shown.plot("curve", "data[0].customdata"), *shown.plot("curve", "data[1].customdata")]
        assert up == pytest.approx(getattr(group, name)[order].tolist(), rel=1e-6)
    shown.page.check("#log")
    shown.settle()
    assert shown.plot("curve", "layout.yaxis.type") == "log"
    assert min(shown.plot("curve", "data[1].y")) > 0


def test_hovering_shows_the_node(shown: Opened) -> None:
    point = shown.page.locator("#curve .scatterlayer .trace >> nth=1").locator(".point").last
    point.evaluate("(element) => element.scrollIntoView({ block: 'center' })")
    box = point.bounding_box()
    node = shown.plot("curve", "data[1].customdata.at(-1)")
    shown.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    shown.page.wait_for_selector("#curve .hoverlayer .hovertext")
    said = shown.page.text_content("#curve .hoverlayer")
    for words in (f"first[{node}]", "candidate", "strength", "R²", "√E[β]", "first["):
        assert words in said


def test_the_heat_map_is_the_table_in_order(shown: Opened, made: AlignmentReport) -> None:
    table = made.groups[0].matches["correlation"].table
    rows = [int(name[6:-1]) for name in shown.plot("heat", "data[0].y")]
    columns = [int(name[6:-1]) for name in shown.plot("heat", "data[0].x")]
    shown_table = np.array(shown.plot("heat", "data[0].z"))
    assert np.abs(shown_table - table[np.ix_(rows, columns)]).max() < 0.005
    assert columns == np.argsort(-made.groups[0].teacher_strength, kind="stable").tolist()


def test_student_nodes_per_teacher_node(shown: Opened, made: AlignmentReport) -> None:
    group = made.groups[0]
    order = np.argsort(-group.teacher_strength, kind="stable")
    for level in (0.9, 0.7):
        shown.page.fill("#aligned-exact", str(level))
        shown.settle()
        counted = (group.matches["correlation"].table >= level).sum(0)[order]
        assert shown.plot("counts", "data[1].y") == counted.tolist()


def test_light_and_dark(shown: Opened) -> None:
    def brightness(selector: str, what: str) -> float:
        colour = shown.page.eval_on_selector(selector, f"(e) => getComputedStyle(e).{what}")
        return float(np.mean([float(part) for part in colour[4:-1].split(",")[:3]]))

    def look() -> tuple[bool, bool]:
        shown.settle()
        return brightness("body", "backgroundColor") < 60, brightness("#curve .xtitle", "fill") > 130

    shown.page.emulate_media(color_scheme="dark")
    assert look() == (True, True)
    shown.page.click("#theme")
    assert look() == (False, False)
    shown.page.click("#theme")
    assert look() == (True, True)
    shown.page.emulate_media(color_scheme="light")
    assert look() == (False, False)


def test_at_phone_width_nothing_sticks_out(hostile_page: Opened) -> None:
    page = hostile_page.page
    page.set_viewport_size({"width": 360, "height": 780})
    edges = """(all) => all.filter((e) => e.checkVisibility() && !e.closest('.scroll, .unseen, .hoverlayer'))
        .map((e) => [e.getBoundingClientRect().right, e.tagName, e.id]).filter(([right]) => right > 361)"""
    for place in range(3):
        page.select_option("#group", str(place))
        hostile_page.settle()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.eval_on_selector_all("main *, header *", edges) == []
    page.set_viewport_size({"width": 1280, "height": 900})


def test_hostile_names_do_nothing(hostile_page: Opened) -> None:
    page = hostile_page.page
    page.select_option("#group", "0")
    hostile_page.settle()
    assert page.locator("img").count() == 0
    assert page.text_content("#detail-title") == HOSTILE
    assert page.text_content(".overview-row .name >> nth=0") == HOSTILE
    assert HOSTILE in page.text_content("#nodes tbody")
    page.hover("#heat .nsewdrag")
    page.wait_for_selector("#heat .hoverlayer .hovertext")
    assert f"{HOSTILE}[" in page.text_content("#heat .hoverlayer")
    page.select_option("#group", "1")
    hostile_page.settle()
    assert page.text_content("#detail-title") == "__proto__"


def test_over_training(shown: Opened) -> None:
    history = made_history()
    for third in range(3):
        overall, group = (shown.plot(f"history-{name}", f"data[{third}].y") for name in ("all", "group"))
        assert overall == pytest.approx(history.thirds()[:, third], abs=1e-5)
        assert group == pytest.approx(history.thirds("first")[:, third], abs=1e-5)
    shown.page.select_option("#group", "2")
    shown.settle()
    assert "not followed" in shown.page.text_content("#history-group-title")


def test_the_table_is_sorted_and_bounded(shown: Opened, made: AlignmentReport) -> None:
    names = shown.page.eval_on_selector_all("#nodes tbody th", "(all) => all.map((cell) => cell.textContent)")
    order = np.argsort(-made.groups[0].strength, kind="stable")
    assert names == [f"first[{k}]" for k in order]
    assert shown.page.locator("#nodes tbody tr").nth(0).locator("td").count() == 10
