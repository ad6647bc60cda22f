from pathlib import Path

import numpy as np
import pytest

import tsdistill as tsd
from tsdistill.report.curve_figure import l_curve_figure, save_l_curve


def test_every_node_is_a_dot(report: tsd.AlignmentReport) -> None:
    figure = l_curve_figure(report)
    dots = figure.axes[0].collections[0].get_offsets()
    group = report.groups[0]
    drawn = sorted(map(tuple, np.asarray(dots).round(9)))
    assert drawn == sorted(zip(group.similarity.round(9), group.standardised_norm.round(9), strict=True))
    assert "teacher" in figure.get_supxlabel()


def test_without_a_teacher_the_axis_says_other(alone: tsd.AlignmentReport) -> None:
    assert "other" in l_curve_figure(alone).get_supxlabel()


@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_files(report: tsd.AlignmentReport, tmp_path: Path, suffix: str, start: bytes) -> None:
    path = save_l_curve(report, tmp_path / f"curve.{suffix}", title="A title")
    assert path.read_bytes().startswith(start)
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written(report: tsd.AlignmentReport, tmp_path: Path) -> None:
    for path in (tmp_path / "curve.docx", tmp_path / "missing" / "curve.png"):
        with pytest.raises(tsd.TsdistillError, match="cannot be written"):
            save_l_curve(report, path)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_group(report: tsd.AlignmentReport) -> None:
    with pytest.raises(tsd.TsdistillError, match="no group 'x'"):
        l_curve_figure(report, ["x"])
