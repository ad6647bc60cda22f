from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tsdistill import plugins
from tsdistill.alignment.metrics import Correlation, Cosine
from tsdistill.alignment.moments import Moments, RunningMoments


def _moments(s: torch.Tensor, t: torch.Tensor) -> Moments:
    running = RunningMoments()
    running.update(s, t)
    return running.finish()


def _data(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    s = torch.relu(torch.randn(200, 5, generator=generator) + 0.3)
    return s, torch.relu(s[:, :4] @ torch.randn(4, 3, generator=generator) + 1)


def test_the_metrics_equal_numpy() -> None:
    s, t = _data(0)
    wide_s, wide_t = s.double().numpy(), t.double().numpy()
    reference = np.corrcoef(wide_s.T, wide_t.T)[:5, 5:]
    np.testing.assert_allclose(Correlation().from_moments(_moments(s, t)), reference, atol=1e-6)
    cosine = (wide_s.T @ wide_t) / np.outer(np.linalg.norm(wide_s, axis=0), np.linalg.norm(wide_t, axis=0))
    np.testing.assert_allclose(Cosine().from_moments(_moments(s, t)), cosine, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 1000), st.permutations(range(5)), st.lists(st.floats(0.01, 100), min_size=5, max_size=5)
)
def test_permuting_and_rescaling_nodes_only_permutes(
    seed: int, order: list[int], scales: list[float]
) -> None:
    s, t = _data(seed)
    for metric in (Correlation(), Cosine()):
        before = metric.from_moments(_moments(s, t))
        after = metric.from_moments(_moments(s[:, order] * torch.tensor(scales), t))
        torch.testing.assert_close(after, before[order], atol=1e-5, rtol=0)


def test_nodes_that_do_not_vary_have_no_likeness() -> None:
    s, t = _data(1)
    s[:, 2] = 0
    for metric in (Correlation(), Cosine()):
        assert bool((metric.from_moments(_moments(s, t))[2] == 0).all())


def test_the_built_ins_are_registered_through_the_hooks() -> None:
    assert {"correlation", "cosine"} <= set(plugins.names("alignment metric"))
    assert plugins.get("alignment metric", "correlation").wants == "moments"
