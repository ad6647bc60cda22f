"""Parameters that only a forward in training mode reads are cut along: a cut model can be trained on."""

import torch
from torch import nn

import tsdistill as tsd
from tests.tracing.networks import randomise
from tsdistill.models.sources import catalog

INPUT = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Beside(nn.Module):
    """A network with a second head that only training sees, as GoogLeNet has them."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 10, 3), nn.BatchNorm2d(10), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(10, 12, 3), nn.ReLU())
        self.beside, self.head = head, nn.Linear(12, 4)

    def forward(self, x: torch.Tensor):
        x = self.stem(x)
        beside = self.beside(x).mean((2, 3)) if self.training else None
        x = self.head(self.body(x).mean((2, 3)))
        return x if beside is None else (x, beside)


class Token(nn.Module):
    """A network in which training puts a token of its own in the place of some positions."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.token, self.head = nn.Linear(6, 14), nn.Parameter(torch.randn(14)), nn.Linear(14, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.lift(x)
        if self.training:
            hidden = torch.zeros(x.shape[:2], dtype=torch.bool)
            hidden[:, ::2] = True
            x[hidden] = self.token
        return self.head(x.mean(1))


class Targets(Beside):
    """Training that asks for more than the example gives."""

    def forward(self, x: torch.Tensor, targets: torch.Tensor | None = None):
        if self.training and targets is None:
            raise ValueError("targets, please")
        return super().forward(x)


def _halved(model: nn.Module, x: torch.Tensor) -> tuple[tsd.NodeGraph, nn.Module]:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    graph = tsd.trace(model, x)
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    result = tsd.cut(model, graph, {group.name: range(group.size // 2) for group in graph.groups}, x)
    assert not result.put_back
    return graph, result.model


def _trained(small: nn.Module, x: torch.Tensor) -> set[str]:
    small.train()
    outputs = small(torch.cat([x, x]))
    sum(out.square().mean() for out in (outputs if isinstance(outputs, tuple) else (outputs,))).backward()
    return {name for name, parameter in small.named_parameters() if parameter.grad is not None}


def test_a_head_that_only_training_reads_goes_along():
    model = randomise(Beside(nn.Sequential(nn.Conv2d(10, 7, 1), nn.ReLU(), nn.Conv2d(7, 4, 1)))).eval()
    graph, small = _halved(model, INPUT)
    assert graph.widths == {"stem.0": 10, "body.0": 12}
    assert small.beside[0].weight.shape == (7, 5, 1, 1)
    kept = model.get_parameter("beside.0.weight")[:, 5:]
    assert torch.equal(small.get_parameter("beside.0.weight"), kept)
    assert _trained(small, INPUT) == {name for name, _ in model.named_parameters()}


def test_a_token_that_only_training_reads_goes_along():
    model, x = randomise(Token()).eval(), torch.randn(1, 5, 6)
    _, small = _halved(model, x)
    assert torch.equal(small.get_parameter("token"), model.get_parameter("token")[7:])
    assert "token" in _trained(small, x)


def test_what_cannot_follow_in_training_leaves_its_nodes_whole():
    model = randomise(Beside(nn.Sequential(nn.Conv2d(10, 10, 3, groups=10), nn.Conv2d(10, 4, 1)))).eval()
    graph, small = _halved(model, INPUT)
    assert graph.widths == {"body.0": 12}
    assert any(item.cause == "is read in training only" for item in graph.frozen)
    assert "beside.0.weight" in _trained(small, INPUT)


def test_training_that_asks_for_targets_is_no_obstacle():
    graph, _ = _halved(randomise(Targets(nn.Conv2d(10, 4, 1))).eval(), INPUT)
    assert graph.widths == {"stem.0": 10, "body.0": 12}


def test_the_second_heads_of_googlenet():
    model = catalog.build("torchvision:googlenet,num_classes=10", weights=False).model.eval()
    x = torch.rand(1, 3, 96, 96)
    graph, small = _halved(model, x)
    assert [item.name for item in graph.frozen] == ["fc"]
    assert len(_trained(small, x)) == len(list(model.parameters()))
