import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import tsdistill as tsd
from tests.report.made import made_graph, made_history, made_report, renamed
from tsdistill.report.numbers import amount
from tsdistill.report.page import page, save_page

HOSTILE = "</script><img src=x onerror=alert(1)>"


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str | None] = []
        self.data: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if "id" in dict(attrs):
            self.ids.append(dict(attrs)["id"])

    def handle_data(self, data: str) -> None:
        tag, attributes = self.found[-1] if self.found else ("", {})
        if tag == "script" and data.strip():
            self.data[attributes.get("id") or ""] = data


@pytest.fixture(scope="module")
def made() -> str:
    return page(made_report())


def test_nothing_is_fetched(made: str) -> None:
    tags = Tags(made)
    for tag, attributes in tags.found:
        for name in ("src", "href", "data", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    assert "default-src 'none'" in made
    assert "@import" not in made
    assert "url(" not in made[: made.index('id="plotly"')]


def test_every_id_that_a_label_names_is_there_once(made: str) -> None:
    tags = Tags(made)
    assert len(tags.ids) == len(set(tags.ids))
    named = [
        value
        for _, attributes in tags.found
        for name in ("for", "aria-labelledby", "aria-describedby")
        for value in (attributes.get(name) or "").split()
    ]
    assert named
    assert set(named) <= set(tags.ids)


def test_the_scripts_find_what_they_look_for() -> None:
    tags = Tags(page(made_report(), made_history()))
    for script in tags.data.values():
        if "byId" in script:
            literal = set(re.findall(r'byId\("([\w-]+)"\)', script))
            assert len(literal) > 20
            assert literal <= set(tags.ids)


def test_the_data_are_json_without_nan() -> None:
    report = made_report()
    group = replace(report.groups[0], r2=np.full(40, np.nan), scores={"cka": float("nan")})
    tags = Tags(page(replace(report, groups=(group, *report.groups[1:]))))
    data = json.loads(tags.data["data"], parse_constant=lambda name: pytest.fail(name))
    assert [each["name"] for each in data["groups"]] == ["first", "second", "third"]


def test_words_from_outside_are_escaped() -> None:
    report = renamed(made_report(), {"first": HOSTILE})
    hostile = replace(
        report,
        arch=HOSTILE,
        teacher_arch=HOSTILE,
        data=HOSTILE,
        input=HOSTILE,
        notes=(HOSTILE,),
        failed={"cosine": HOSTILE},
    )
    tags = Tags(page(hostile))
    assert "img" not in [tag for tag, _ in tags.found]
    assert [tag for tag, _ in tags.found].count("script") == 3


def test_the_header_says_what_was_looked_at(made: str) -> None:
    for words in (
        "made_student",
        "made_teacher",
        "400 invented samples",
        "correlation, cosine, cka",
        f"{amount(made_graph().params())} parameters",
        "forward 1.25 s",
        "a note for the reader",
    ):
        assert words in made


def test_without_a_teacher_the_words_change() -> None:
    alone = page(made_report(own=True))
    assert "beside</span> itself" in alone
    assert "Twins per node" in alone
    assert "teacher node" not in alone[: alone.index('id="data"')].replace("teacher nodes aligned", "")


def test_over_training_only_with_a_history(made: str) -> None:
    assert 'id="history-title"' not in made
    assert 'id="history-title"' in page(made_report(), made_history())


def test_a_dollar_is_a_dollar() -> None:
    assert "$style costs" in page(made_report(data="$style costs"))


def test_the_file_is_written_in_one_step(made: str, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("before")
    assert save_page(made_report(), path) == path
    assert path.read_text(encoding="utf-8") == made
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_size < 2_500_000


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(tsd.TsdistillError, match="cannot be written"):
        save_page(made_report(), tmp_path / "missing" / "report.html")
    folder = tmp_path / "folder.html"
    folder.mkdir()
    with pytest.raises(tsd.TsdistillError, match="cannot be written"):
        save_page(made_report(), folder)
    assert os.listdir(tmp_path) == ["folder.html"]


def test_of_what_analyze_returns(report: tsd.AlignmentReport, alone: tsd.AlignmentReport) -> None:
    for each in (report, alone):
        data = json.loads(Tags(page(each)).data["data"])
        assert data["groups"][0]["size"] == 9
        assert list(data["groups"][0]["matches"]) == ["correlation"]
