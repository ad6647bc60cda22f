import errno
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import tsdistill as tsd
from tests.report.made import made_history, made_report
from tsdistill.report import plots
from tsdistill.report.network_figures import history_figure, overview_figure
from tsdistill.report.pair_figures import counts_figure, heat_figure, matched_groups, weak_to_strong_figure
from tsdistill.report.plots import save_plots

NAMES = ("overview", "l_curve", "heat_map", "counts", "weak_to_strong")


def heights(figure: Figure) -> list[float]:
    return [bar.get_height() for bar in figure.axes[0].patches if isinstance(bar, Rectangle)]


def test_every_figure_in_every_format(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "plots"
    written = save_plots(made_report(), folder, history=made_history())
    expected = {f"{name}.{suffix}" for name in (*NAMES, "over_training") for suffix in ("png", "svg")}
    assert {path.name for path in written} == expected == {path.name for path in folder.iterdir()}
    for path in written:
        assert path.read_bytes().startswith(b"\x89PNG" if path.suffix == ".png" else b"<?xml")


def test_many_groups_go_on_in_further_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "PANELS", 2)
    names = {path.name for path in save_plots(made_report(), tmp_path, ("png",))}
    assert {"l_curve-1.png", "l_curve-2.png", "heat_map.png"} < names


def test_without_a_partner_there_is_no_heat_map(tmp_path: Path) -> None:
    report = made_report()
    written = save_plots(replace(report, groups=report.groups[2:]), tmp_path, ("png",))
    assert {path.name for path in written} == {"overview.png", "l_curve.png"}


def test_folders_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(tsd.TsdistillError, match="cannot be made"):
            save_plots(made_report(), folder)


def test_a_full_disk_leaves_no_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    (tmp_path / "old").mkdir()
    for folder in (tmp_path / "new" / "plots", tmp_path / "old"):
        with pytest.raises(tsd.TsdistillError, match="No space left"):
            save_plots(made_report(), folder)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_a_format_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(tsd.TsdistillError, match="cannot be written"):
        save_plots(made_report(), tmp_path, ("docx",))
    assert list(tmp_path.iterdir()) == []


def test_the_heat_map_shows_the_ordered_table() -> None:
    report = made_report()
    group = report.groups[0]
    shown = np.asarray(heat_figure(report, ["first"]).axes[0].images[0].get_array())
    matches = group.matches["correlation"]
    columns = np.argsort(-group.teacher_strength, kind="stable")
    assert shown.shape == matches.table.shape
    assert (np.diff(matches.best[matches.best.argsort()]) >= 0).all()
    assert sorted(shown[:, 0]) == pytest.approx(sorted(matches.table[:, columns[0]]))


def test_beside_itself_no_node_is_compared_with_itself() -> None:
    report = made_report(own=True)
    image = heat_figure(report, ["first"]).axes[0].images[0].get_array()
    shown: np.ndarray = np.ma.masked_invalid(np.ma.asarray(image)).filled(np.nan)
    assert np.isnan(np.diag(shown)).all()


def test_counts_are_those_of_the_matches() -> None:
    report = made_report()
    group = report.groups[0]
    bars = heights(counts_figure(report, ["first"]))
    counts = group.matches["correlation"].counts[:, np.argsort(-group.teacher_strength, kind="stable")]
    assert bars == [*counts[0], *counts[8]]


def test_means_from_weak_to_strong() -> None:
    report = made_report()
    group = report.groups[0]
    bars = heights(weak_to_strong_figure(report, ["first"]))
    order = np.argsort(group.teacher_strength)
    assert bars == pytest.approx(group.matches["correlation"].teacher_similarity[order].tolist())


def test_the_overview_accounts_for_every_node() -> None:
    report = made_report()
    shares, means = overview_figure(report).axes
    total = np.reshape([bar.get_width() for bar in shares.patches if isinstance(bar, Rectangle)], (4, 3)).sum(
        0
    )
    assert total == pytest.approx([1, 1, 1])
    assert len(np.asarray(means.collections[0].get_offsets())) == len(matched_groups(report)) == 2


def test_the_history_in_thirds() -> None:
    history = made_history()
    panel = history_figure(history).axes[0]
    drawn = np.stack([line.get_ydata() for line in panel.lines[:3]], axis=1)
    assert drawn == pytest.approx(history.thirds())
