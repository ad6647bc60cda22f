import sys

import numpy as np
import pandas as pd
import pytest

import tsdistill as tsd
from tests.report.made import made_report
from tsdistill.alignment.report import FIGURES, FLAGS, rows


def test_a_row_a_node() -> None:
    report = made_report()
    table = report.to_dataframe()
    assert len(table) == 80
    assert table.groupby("group", sort=False).size().to_dict() == {"first": 40, "second": 24, "third": 16}
    for group in report.groups:
        part = table[table.group == group.name]
        assert part.node.tolist() == list(range(group.size))
        for name in (*FIGURES, *FLAGS):
            assert part[name].tolist() == getattr(group, name).tolist(), name


def test_matches_of_every_metric() -> None:
    report = made_report()
    table = report.to_dataframe()
    first = table[table.group == "first"]
    assert first.best.tolist() == report.groups[0].best.tolist()
    assert np.allclose(first.similarity, report.groups[0].similarity)
    assert np.allclose(first.similarity_cosine, report.groups[0].matches["cosine"].similarity)
    assert set(first.teacher_group) == {"first"}
    assert "similarity_cka" not in table


def test_without_a_partner_the_match_is_missing() -> None:
    table = made_report().to_dataframe()
    third = table[table.group == "third"]
    assert third[["teacher_group", "best", "similarity", "similarity_cosine"]].isna().all().all()
    assert str(table.best.dtype) == "Int64"
    assert table.similarity.dtype == table.similarity_cosine.dtype == np.float64


def test_columns_work_as_pandas_expects() -> None:
    table = made_report().to_dataframe()
    assert table.dead.dtype == bool
    assert table[table.candidate].groupby("group").strength.sum().notna().all()
    assert pd.api.types.is_integer_dtype(table.node)


def test_plain_rows() -> None:
    row = rows(made_report())[0]
    assert {type(value) for value in row.values()} <= {int, float, str, bool}


def test_of_what_analyze_returns() -> None:
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).eval()
    table = tsd.analyze(model, data=torch.randn(64, 4)).to_dataframe()
    assert len(table) == 6
    assert (table.best != table.node).all()


def test_without_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(tsd.TsdistillError, match="pandas"):
        made_report().to_dataframe()
