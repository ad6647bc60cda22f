"""From what is written to losses."""

import pytest

from tsdistill.distillation.losses import Combined, PlainLoss, parse
from tsdistill.distillation.losses.loss_syntax import KIND
from tsdistill.distillation.losses.node_alignment import NodeAlignment
from tsdistill.distillation.losses.output_losses import SoftTargets
from tsdistill.errors import TsdistillError
from tsdistill.plugins import names


def test_the_seven_are_registered() -> None:
    known = {
        "attention-transfer",
        "cross-entropy",
        "dkd",
        "hints",
        "logits",
        "node-alignment",
        "soft-targets",
    }
    assert known <= set(names(KIND))


@pytest.mark.parametrize(
    "given",
    [
        ["soft-targets:T=2", "0.5*node-alignment:match=best,positions=16,strength=no"],
        "soft-targets:T=2 + 0.5*node-alignment:match=best,positions=16,strength=no",
        {"soft-targets:T=2": 1, "node-alignment:match=best,positions=16,strength=no": 0.5},
    ],
)
def test_weights_and_options_in_every_notation(given) -> None:
    made = parse(given)
    assert made.words == "soft-targets + 0.5 node-alignment"
    soft, nodes = (term.loss for term in made.terms)
    assert isinstance(soft, SoftTargets)
    assert isinstance(nodes, NodeAlignment)
    assert soft.T == 2
    assert (nodes.match, nodes.positions, nodes.strength) == ("best", 16, False)
    assert made.needs_teacher
    assert not made.needs_labels


def test_a_loss_of_ones_own_and_a_sum_that_is_made() -> None:
    class Mine(PlainLoss):
        needs_teacher = False

        def __call__(self, step):
            return step.student_output.mean()

    made = parse(Mine())
    assert isinstance(made, Combined)
    assert made.words == "Mine"
    assert not made.needs_teacher
    assert parse(made) is made
    assert parse("cross-entropy").needs_labels


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("soft-target", "unknown loss 'soft-target'; did you mean soft-targets"),
        ("soft-targets:t=4", "no option 't'"),
        ("soft-targets:T=warm", "T=warm: give a number"),
        ("soft-targets:T", "write T=VALUE"),
        ("node-alignment:positions=2.5", "give a whole number"),
        ("node-alignment:strength=perhaps", "give yes or no"),
        ("much*logits", "the weight of a loss is a number from 0, not 'much'"),
        ({"logits": -1}, "the weight of a loss"),
        ("logits + 2*logits", "the loss logits is given twice"),
        ([], "there is no loss"),
        (3, "not as a int"),
    ],
)
def test_what_cannot_be_read_is_said(given, words: str) -> None:
    with pytest.raises(TsdistillError) as caught:
        parse(given)
    assert words in str(caught.value)
