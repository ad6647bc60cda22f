"""An analysis of padded text is that of the text."""

from __future__ import annotations

import numpy as np
import torch

from tests.language import causal
from tsdistill import analyze


def test_activations_at_padding_change_no_statistics() -> None:
    rows = torch.randint(6, 60, (40, 8), generator=torch.Generator().manual_seed(0)).numpy()
    padded = np.concatenate([rows, np.full((40, 8), -1)], 1)
    plain, masked = (
        analyze(causal(), None, data, inputs={"batch_size": 10}, analysis={"positions": None})
        for data in (rows, padded)
    )
    assert plain.statistics is not None
    assert masked.statistics is not None
    for key, covariance in plain.statistics.observed.covariances.items():
        other = masked.statistics.observed.covariances[key]
        assert np.allclose(covariance.mean, other.mean, atol=1e-5), key
        assert np.allclose(covariance.matrix, other.matrix, atol=1e-4, rtol=1e-4), key
