from dataclasses import replace

from tests.report.console import text
from tests.report.made import made_report
from tsdistill.alignment.predicted_cuts import PredictedCut, PredictedCuts
from tsdistill.report.cut_table import cuts_table, page_section, suggested
from tsdistill.report.page import page

PARTS = ("0.90", "0.75", "0.50", "0.25")
SIZES = {f"layer{n}.conv": 16 for n in range(100)}


def made_cuts(*errors: float | None, command: str = "tsdistill prune <m>.pt --macs {macs}") -> PredictedCuts:
    """Cuts of a hundred groups, the first of which stays whole."""
    cuts = [
        PredictedCut(
            part, part, part, error, 0.01, {name: 16 if name == "layer0.conv" else 8 for name in SIZES}
        )
        for part, error in zip((0.9, 0.75, 0.5, 0.25), errors, strict=False)
    ]
    return PredictedCuts(SIZES, tuple(cuts), 64, command)


def test_a_row_a_cut_and_a_block_a_group() -> None:
    shown = text(cuts_table(made_cuts(0.004, 0.08, None, 3.0)), 200)
    rows = [line.split() for line in shown.splitlines() if line.split()[:1] and line.split()[0] in PARTS]
    assert [row[0] for row in rows] == list(PARTS)
    assert "0.4 %" in shown
    assert "unknown" in shown
    assert "over 100 %" in shown
    for row in rows:
        assert len(row[-1]) == 100
        assert row[-1][0] == "█"
        assert set(row[-1][1:]) == {"▄"}


def test_it_fits_a_narrow_terminal() -> None:
    lines = text(cuts_table(made_cuts(0.004, 0.08)), 80).splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.count("▄") for line in lines) == 2 * 99


def test_the_suggested_cut_is_the_smallest_of_the_mild_ones() -> None:
    assert suggested(made_cuts(0.004, 0.08, 0.2, None)).macs == 0.75
    assert suggested(made_cuts(0.3, 0.4)).macs == 0.9


def test_the_page_has_a_bar_a_group_and_escapes_what_it_is_given() -> None:
    section = page_section(made_cuts(0.004, 0.08))
    assert section.count('class="stays"') == 200
    assert "&lt;m&gt;.pt --macs 0.75" in section
    assert "<title>layer1.conv: 8 of 16</title>" in section
    report = made_report()
    assert 'id="cuts-title"' not in page(report)
    assert section in page(replace(report, cuts=made_cuts(0.004, 0.08)))


def test_json_has_every_cut_with_its_command() -> None:
    stored = replace(made_report(), cuts=made_cuts(0.004, None)).to_dict()["cuts"]
    assert [cut["error"] for cut in stored["cuts"]] == [0.004, None]
    assert stored["cuts"][1]["command"].endswith("--macs 0.75")
    assert made_report().to_dict()["cuts"] is None


def test_a_direction_override_is_shown_as_its_escape() -> None:
    name = "a\u202egnp.pt"
    cut = PredictedCut(0.5, 0.5, 0.5, 0.1, 0.01, {name: 8})
    cuts = PredictedCuts({name: 16}, (cut,), 64, f"tsdistill prune {name} --macs {{macs}}", notes=(name,))
    report = replace(made_report(), cuts=cuts)
    assert "\u202e" not in page(report)
    assert page(report).count(r"a\u202egnp.pt") == 3
