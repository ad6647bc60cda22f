"""Networks whose values decide what goes on, as those of a detector do."""

import pytest
import torch
from torch import nn
from torchvision.models import detection
from torchvision.ops import MultiScaleRoIAlign, nms, roi_align

import tsdistill as tsd
from tsdistill.tracing.cut_verification import reference
from tsdistill.tracing.labelled_run import record
from tsdistill.tracing.output_tolerance import STRICT, difference
from tsdistill.tracing.replay import replay
from tsdistill.tracing.surgery import checked, remove_coordinates, removed_mask

IMAGE = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Finder(nn.Module):
    """Boxes around the places with the highest scores; of those few are left, or none."""

    def __init__(self, least: float) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 10, 1), nn.ReLU()
        )
        self.score = nn.Conv2d(10, 1, 1)
        self.inner = nn.Linear(10 * 4, 14)
        self.classes = nn.Linear(14, 3)
        self.least = least

    def forward(self, x):
        features = self.features(x)
        scores = self.score(features).flatten()
        values, places = scores.topk(20)
        x0, y0 = (places % 16).float(), (places // 16).float()
        boxes = torch.stack([x0, y0, x0 + 4, y0 + 4], dim=1)
        kept = nms(boxes, values, 0.3)[:6]
        found = features.new_zeros(len(kept), features.shape[1], 2, 2)
        wide = torch.where(values[kept] > values[kept].median())[0]
        for chosen in (wide, torch.where(values[kept] <= values[kept].median())[0]):
            found[chosen] = roi_align(features, [boxes[kept][chosen]], (2, 2))
        classes = self.classes(torch.relu(self.inner(found.flatten(1)))).softmax(-1)
        sure = torch.where(classes.amax(1) > self.least)[0]
        return boxes[kept][sure], classes[sure]


@pytest.mark.parametrize("least", [0.0, 2.0])
def test_a_finder_is_cut_everywhere_but_where_it_chooses(least):
    torch.manual_seed(0)
    model = Finder(least).eval()
    graph = tsd.trace(model, IMAGE)
    assert {group.name: group.size for group in graph.groups} == {
        "features.0": 12,
        "features.2": 10,
        "inner": 14,
    }
    removed = {group.name: list(range(1, group.size, 2)) for group in graph.groups}
    result = tsd.cut(model, graph, removed, IMAGE)
    assert not result.put_back
    assert result.model.inner.weight.shape == (7, 20)


def test_a_wrong_cut_is_seen_where_nothing_comes_out():
    torch.manual_seed(0)
    model = Finder(2.0).eval()
    graph = tsd.trace(model, IMAGE)
    assert graph.record is not None
    removed = checked(graph, {"inner": [0, 3]})
    leaving = removed_mask(graph, removed)
    small, _ = remove_coordinates(model, graph, removed)
    wanted = reference(model, IMAGE, graph.record, leaving)
    assert difference(list(replay(small, IMAGE, graph.record, leaving).output), wanted, STRICT) is None
    with torch.no_grad():
        small.classes.weight.neg_()
    assert "differs" in difference(list(replay(small, IMAGE, graph.record, leaving).output), wanted, STRICT)


class Resized(nn.Module):
    """The side of an image follows from a value, the place of its largest pixel is looked up."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        image = self.last(torch.relu(self.first(x)))
        side = 4 + int(image.std().mul(3).ceil().item())
        large = nn.functional.interpolate(image, (side, side)).flatten()
        return large[large.argmax()]


def test_a_number_read_from_a_tensor_is_a_choice():
    graph = tsd.trace(Resized().eval(), IMAGE)
    assert graph.widths == {"first": 8}


class Caching(nn.Module):
    """A tensor made by the first forward is used by the later ones."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)
        self.scale: torch.Tensor | None = None

    def forward(self, x):
        if self.scale is None:
            self.scale = torch.tensor([2.0]).exp() + torch.tensor(1.0)
        return self.last(torch.relu(self.first(x) * self.scale))


def test_what_only_the_first_forward_does_is_passed_over():
    model = Caching().eval()
    graph = tsd.trace(model, torch.randn(1, 6))
    assert [group.size for group in graph.groups] == [8]


def test_choices_of_whole_tensors_are_kept():
    model = Finder(0.0).eval()
    chosen = [step.op for step in record(model, IMAGE).steps if step.chosen]
    assert {"aten.topk.default", "torchvision.nms.default", "aten.gt.Tensor"} <= set(chosen)


def test_a_detector_is_cut():
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 12, 3, 2, 1), nn.ReLU())
    vars(backbone)["out_channels"] = 12
    anchors = detection.anchor_utils.AnchorGenerator(((8, 16),), ((0.5, 1.0),))
    pooled = MultiScaleRoIAlign(["0"], 3, 2)
    model = detection.FasterRCNN(
        backbone, 4, min_size=64, max_size=64, rpn_anchor_generator=anchors, box_roi_pool=pooled
    ).eval()
    example = ([torch.rand(3, 64, 64)],)
    graph = tsd.trace(model, example)
    assert graph.widths == {
        "backbone.0": 16,
        "backbone.2": 12,
        "rpn.head.conv.0.0": 12,
        "roi_heads.box_head.fc6": 1024,
        "roi_heads.box_head.fc7": 1024,
    }
