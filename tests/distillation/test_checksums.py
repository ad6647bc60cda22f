"""Checksums tell samples apart, and are the same whatever batch a sample is in."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tsdistill.distillation.checksums import checksums, fingerprint_of_samples

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(9, 5, 3, generator=GENERATOR)


def nested(x: torch.Tensor) -> dict[str, Any]:
    return {"a": x, "b": {"c": (x[:, 0] > 0), "d": x[:, 1].double()}}


@pytest.mark.parametrize("form", [lambda x: x, list, nested, lambda x: (x, x + 1)])
def test_a_sample_has_one_checksum_whatever_the_batch(form: Any) -> None:
    whole = checksums(form(X))
    parts = torch.cat([checksums(form(part)) for part in X.split(2)])
    assert torch.equal(whole, parts)
    assert len(whole.unique()) == 9
    assert (whole != 0).all()


@pytest.mark.parametrize("dtype", [
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.uint8, torch.complex128,
])  # fmt: skip
def test_one_value_or_an_exchange_of_two_is_seen(dtype: torch.dtype) -> None:
    x = (40 * X).abs().to(dtype)[:1].flatten(1)
    (before,) = checksums(x)
    for place in range(1, x.shape[1]):
        changed, exchanged = x.clone(), x.clone()
        changed[0, place] += 1
        exchanged[0, [0, place]] = x[0, [place, 0]]
        assert checksums(changed)[0] != before
        assert checksums(exchanged)[0] != before or torch.equal(exchanged, x)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = checksums(X)
    monkeypatch.setattr("tsdistill.distillation.checksums._CHUNK", 20)
    assert torch.equal(checksums(X), whole)


def test_samples_without_labels_and_labels_count() -> None:
    known = {fingerprint_of_samples([(X, y)]) for y in (None, X[:, 0, 0], X[:, 0, 1])}
    assert len(known) == 3
