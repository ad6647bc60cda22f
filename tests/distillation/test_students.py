"""The teacher's architecture at other widths, started afresh."""

from pathlib import Path

import pytest
import torch

import tsdistill as tsd
from tests.networks import convnet
from tests.tracing.branch_networks import network
from tsdistill.distillation.students import student_of
from tsdistill.errors import TsdistillError

SOURCE = """
from torch import nn
from tsdistill.models import InputSpec

INPUT = InputSpec((1, 8, 8))

def plain():
    layers, inputs = [], 1
    for width in (6, 8):
        layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 10))
"""

CATALOG = {
    "resnet": "timm:test_resnet,num_classes=7,pretrained=false",
    "mobilenet": "timm:mobilenetv3_small_050,num_classes=7,pretrained=false",
    "vit": "timm:test_vit,num_classes=7,pretrained=false",
}


@pytest.mark.parametrize("width", [0.5, 1, 2, 5, 10])
def test_a_plain_network_at_every_width(width: float) -> None:
    teacher = convnet(6, 8)
    made = student_of(teacher, width, example=torch.zeros(1, 1, 8, 8))
    assert made.widths == {"0": round(6 * width), "3": round(8 * width)}
    assert not made.kept
    assert made.model[0].weight.shape == (round(6 * width), 1, 3, 3)
    assert made.model.train()(torch.randn(4, 1, 8, 8)).shape == (4, 10)
    assert teacher[0].weight.shape == (6, 1, 3, 3)


@pytest.mark.parametrize(
    ("family", "width"),
    [("resnet", 0.5), ("resnet", 2), ("mobilenet", 0.5), ("mobilenet", 2), ("vit", 0.5), ("vit", 2)],
)
def test_catalog_architectures_run_and_load_again(family: str, width: float, tmp_path: Path) -> None:
    torch.manual_seed(0)
    teacher = tsd.load(CATALOG[family]).eval()
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    made = student_of(teacher, width, seed=1)
    assert all(torch.equal(before[name], tensor) for name, tensor in teacher.state_dict().items())
    changed = [made.widths[name] != made.before[name] for name in made.widths]
    assert sum(changed) >= 0.8 * len(changed), made.words
    example = tsd.example_input(teacher).repeat(3, 1, 1, 1)
    out = made.model(example)
    assert out.shape == (3, 7)
    out.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in made.model.parameters() if p.grad is not None)
    path = tmp_path / "student.safetensors"
    tsd.save(made.model, path)
    again = tsd.load(path).eval()
    with torch.no_grad():
        assert torch.equal(again(example), made.model.eval()(example))


def test_the_seed_gives_the_parameters_and_no_global_generator_moves() -> None:
    teacher, x = convnet(6, 8), torch.zeros(1, 1, 8, 8)
    state = torch.get_rng_state()
    one, two, other = (student_of(teacher, 2, example=x, seed=seed).model for seed in (1, 1, 2))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one[0].weight, other[0].weight)
    same = student_of(teacher, 1, example=x).model
    assert not torch.equal(next(same.parameters()), next(teacher.parameters()))
    assert one[1].running_mean.abs().max() == 0
    assert torch.unique(one[3].weight.flatten(1), dim=0).shape[0] == 16
    bound = one[3].weight[0].numel() ** -0.5
    assert 0.9 * bound < one[3].weight.abs().max() <= bound


def test_parameters_without_a_module_that_resets_them_look_like_a_fresh_builds() -> None:
    teacher = tsd.load(CATALOG["vit"])
    fresh = teacher.pos_embed.std().item()
    teacher.pos_embed.data.add_(5)
    made = student_of(teacher, 2).model
    assert made.pos_embed.mean().abs() < 0.1
    assert made.pos_embed.std().item() == pytest.approx(fresh, rel=0.2)


def test_one_factor_a_group_and_a_plan() -> None:
    teacher, x = convnet(6, 8), torch.zeros(1, 1, 8, 8)
    made = student_of(teacher, {"3": 1.5}, example=x)
    assert made.widths == {"0": 6, "3": 12}
    report = tsd.analyze(teacher, data=[torch.randn(32, 1, 8, 8)], inputs={"example_input": x})
    plan = tsd.plan(report, budget={"nodes": 0.5})
    sizes = {name: 8 if name == "3" else 6 for name in ("0", "3")}
    made = student_of(teacher, plan, example=x)
    assert made.widths == {name: size - len(plan.removed.get(name, ())) for name, size in sizes.items()}
    assert sum(made.widths.values()) <= 8


def test_a_file_of_ones_own_code_loads_again(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(SOURCE)
    arch = f"{tmp_path / 'own.py'}:plain"
    made = student_of(tsd.load(arch), 3, example=torch.zeros(1, 1, 8, 8)).model
    tsd.save(made, tmp_path / "wide.safetensors")
    again = tsd.load(tmp_path / "wide.safetensors", arch=arch)
    assert again[3].weight.shape == (24, 18, 3, 3)


@pytest.mark.parametrize(
    ("width", "words"), [(0, "width 0"), (-2, "width -2"), (1e6, "at most 100"), ({"x": 2}, "no group 'x'")]
)
def test_bad_widths_are_refused(width, words: str) -> None:
    with pytest.raises(TsdistillError) as caught:
        student_of(convnet(6, 8), width, example=torch.zeros(1, 1, 8, 8))
    assert words in str(caught.value)


def test_a_plan_with_branches() -> None:
    teacher, example = network("basic")
    branch = tsd.trace_branches(teacher, example)[1]
    data = torch.randn(40, 3, 9, 9)
    plan = tsd.prune_result(
        teacher, data=data, budget={"drop": branch.name}, realignment={"realign": False}
    ).plan
    student = student_of(teacher, plan, example=example)
    whole, small = (sum(p.numel() for p in model.parameters()) for model in (teacher, student.model))
    assert small == whole - branch.params
    assert student.model(data).shape == teacher(data).shape
