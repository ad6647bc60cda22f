from dataclasses import replace

import tsdistill as tsd
from tsdistill.report.report_text import header_lines, timing_line
from tsdistill.report.tables import of
from tsdistill.tracing import Frozen


def test_the_data_and_every_note_are_said(report: tsd.AlignmentReport) -> None:
    noted = replace(report, notes=("of the report",))
    lines = header_lines(noted, ("of loading", "of the report"))
    assert report.data in "\n".join(lines)
    assert [line for line in lines if line.startswith("note")] == [
        "note    of loading",
        "note    of the report",
    ]


def test_what_cannot_be_cut_is_counted_by_cause(report: tsd.AlignmentReport) -> None:
    frozen = tuple(Frozen(f"layer{n}", "reaches the output" if n % 2 else "raw input") for n in range(3))
    lines = header_lines(replace(report, graph=replace(report.graph, frozen=frozen)))
    (line,) = [each for each in lines if "raw input (2)" in each and "reaches the output (1)" in each]
    assert "3 layer widths" in line


def test_numbers_agree_with_one(report: tsd.AlignmentReport) -> None:
    assert "1 group of nodes" in header_lines(report)[0]


def test_where_the_time_went(report: tsd.AlignmentReport) -> None:
    spent = {"strength": 0.5, "tracing": 0.25, "mine": 2.0, "moments": 1e-5, "forward": 1.0}
    line = timing_line(replace(report, seconds=spent))
    assert line == "time    tracing 250 ms, forward 1 s, strength 500 ms, mine 2 s; 3.75 s in all"
    assert timing_line(replace(report, seconds={})) == "time    next to nothing; 0 µs in all"
    assert "forward" in timing_line(report)


def test_a_name_of_several_lines_is_one_line(report: tsd.AlignmentReport) -> None:
    named = replace(report, name="small\nwritten to big.pt", arch=None)
    assert header_lines(named)[0].startswith("model   small\\nwritten to big.pt: ")
    assert of(named) == " of small\\nwritten to big.pt"
