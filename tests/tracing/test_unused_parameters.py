"""What the example does not run is cut along, on other inputs or beside modules like it, or stays whole."""

import pytest
import torch
from torch import nn

import tsdistill as tsd
from tests.tracing.networks import randomise, zeroed
from tests.tracing.own import halved

GENERATOR = torch.Generator().manual_seed(0)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=GENERATOR)


class Expert(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(torch.tanh(self.up(x)))


class Mixture(nn.Module):
    """Every row goes to the expert that its first value says; the first ``dark`` experts get none."""

    def __init__(self, experts: int = 5, dark: int = 0) -> None:
        super().__init__()
        self.enter = nn.Linear(6, 14)
        self.experts = nn.ModuleList(Expert(14, 10) for _ in range(experts))
        self.out, self.dark = nn.Linear(14, 3), dark

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        best = (4 * x[:, 0].abs()).long() % (len(self.experts) - self.dark) + self.dark
        x = self.enter(x)
        y = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows = torch.where(best == number)[0]
            if len(rows):
                y = y.index_add(0, rows, expert(x[rows]))
        return self.out(x + y)


def mixture(dark: int = 0) -> Mixture:
    torch.manual_seed(0)
    model = Mixture(dark=dark).eval()
    randomise(model)
    return model


class Choosing(nn.Module):
    """Parts that the example does not run, by what values, an argument or another method say."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 9), nn.ReLU())
        self.heads = nn.ModuleDict({"a": nn.Linear(9, 3), "b": nn.Linear(9, 5)})
        self.early, self.project = nn.Linear(12, 3), nn.Linear(9, 4)

    def forward(self, x: torch.Tensor, task: str = "a") -> torch.Tensor:
        h = self.body[:2](x)
        if float(x.detach().mean()) > 100:
            return self.early(h)
        return self.heads[task](self.body[2:](h))

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        return self.project(self.body(x))


class Exits(nn.Module):
    """Streams of one width, each with an exit of its own; only the last is taken."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([nn.Linear(6, 11), nn.Linear(11, 11), nn.Linear(11, 11)])
        self.exits = nn.ModuleList(nn.Linear(11, 3) for _ in range(3))

    def forward(self, x: torch.Tensor, stage: int = 2) -> torch.Tensor:
        for layer in self.stages[: stage + 1]:
            x = torch.relu(layer(x))
        return self.exits[stage](x)


class Lone(nn.Module):
    """A module that is like no other, and a vector, which nothing runs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 12), nn.Linear(12, 9)
        self.out, self.shift = nn.Linear(9, 3), nn.Parameter(drawn(9))
        self.other = nn.Bilinear(12, 12, 4)

    def forward(self, x: torch.Tensor, shifted: bool = False) -> torch.Tensor:
        x = torch.relu(self.a(x))
        y = torch.relu(self.b(x))
        return self.out(y + self.shift if shifted else y)


def apart(model: nn.Module, graph: tsd.NodeGraph, result, call) -> float:
    """How far the cut model is from the whole one with the removed nodes zeroed."""
    with torch.no_grad():
        wanted = call(zeroed(model, graph, result.removed))
        return float((call(result.model) - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("dark", [0, 2])
@pytest.mark.parametrize("others", [(), (400,), (3, 3, 3, 400)])
def test_experts_that_the_example_does_not_reach_are_cut_like_the_others(dark, others):
    model = mixture(dark)
    graph = tsd.trace(model, drawn(1, 6), others=[drawn(rows, 6) for rows in others])
    assert sorted(graph.widths.values()) == [10] * 5 + [14]
    result = tsd.cut(model, graph, {g.name: range(0, g.size, 2) for g in graph.groups}, drawn(1, 6))
    assert not result.put_back
    for each in (model, result.model):
        each.dark = 0  # type: ignore[assignment]
    x = drawn(200, 6)
    assert apart(model, graph, result, lambda each: each(x)) < 1e-4
    assert bool(graph.notes) == (dark > 0 or not others)


def test_inputs_that_run_nothing_new_are_not_traced():
    model = mixture()
    others = [drawn(400, 6) for _ in range(4)]
    graph = tsd.trace(model, drawn(1, 6), others=iter(others))
    assert graph.record is not None
    assert 1 <= len(graph.record.trace.further_runs) <= 4

    def refused():
        raise AssertionError("nothing is left to look for")
        yield

    tsd.trace(model, drawn(400, 6), others=refused())


@pytest.mark.parametrize(
    "call",
    [
        lambda model, x: model(x),
        lambda model, x: model(x, task="b"),
        lambda model, x: model(x + 1000),
        lambda model, x: model.embed(x),
    ],
)
def test_heads_exits_and_other_methods_still_work(call):
    model, x = randomise(Choosing()).eval(), drawn(4, 6)
    graph, small = halved(model, x[:1])
    assert len(graph.widths) == 2
    assert len(graph.notes) == 2
    assert call(small.model, x).shape == call(model, x).shape


def test_what_could_read_one_of_several_widths_leaves_them_all_whole():
    model, x = randomise(Exits()).eval(), drawn(4, 6)
    graph = tsd.trace(model, x[:1])
    assert not graph.groups
    assert any("exits.0" in item.cause or "exits.1" in item.cause for item in graph.frozen)
    assert any("exits.0, exits.1" in note for note in graph.notes)
    seen = tsd.trace(model, {"x": x[:1]}, others=[{"x": x, "stage": 0}, {"x": x, "stage": 1}])
    assert len(seen.groups) == 3
    assert not seen.notes


def test_what_is_like_no_other_keeps_its_widths_and_a_vector_goes_along():
    model, x = randomise(Lone()).eval(), drawn(4, 6)
    graph, result = halved(model, x[:1])
    assert set(graph.widths) == {"b"}
    assert any("other" in note and "a" in note for note in graph.notes)
    assert result.model.other(torch.relu(result.model.a(x)), torch.relu(result.model.a(x))).shape == (4, 4)
    assert apart(model, graph, result, lambda each: each(x, shifted=True)) < 1e-4


@pytest.mark.parametrize("dark", [0, 1])
def test_pruning_looks_at_the_data_and_tells_what_they_do_not_run(dark):
    model = mixture(dark)
    data = drawn(128, 6)
    result = tsd.prune_result(model, data=data, budget={"params": 0.6}, inputs={"example_input": data[:1]})
    assert not result.put_back
    assert result.after["params"] <= 0.6 * result.before["params"]
    result.model.dark = 0  # type: ignore[assignment]
    assert result.model(drawn(300, 6)).isfinite().all()
    assert any("experts.0 runs on no input" in note for note in result.notes) == bool(dark)
