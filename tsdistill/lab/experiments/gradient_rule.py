"""gradient-rule: Lemma 1, the gradient as a combination of teacher and student activations."""

from __future__ import annotations

from dataclasses import dataclass

from tsdistill.errors import TsdistillError
from tsdistill.lab.experiment import Context, Experiment
from tsdistill.lab.experiments.rule.random_pairs import families
from tsdistill.lab.experiments.rule.trained_pair import trained
from tsdistill.lab.outcome import Claim, Outcome, Table
from tsdistill.lab.settings import Settings, option, positive

PAPER = "arXiv 1909.13458"
_EXACT = 1e-11


@dataclass(frozen=True)
class GradientRule(Settings):
    """Settings of gradient-rule. Everything is done in float64 on the processor."""

    dtype: str = option("float64", "precision of the networks: float64 only")
    depths: tuple[int, ...] = option((1, 2, 3, 4, 6, 8), "numbers of hidden layers of the random networks")
    repeats: int = option(40, "random pairs of each kind (a quarter of them for ConvNets)")
    slope: float = option(0.1, "slope of Leaky ReLU below zero")
    steps: int = option(20_000, "training steps of the pair that is looked at while it learns")

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "depths", "repeats", "slope", "steps")
        if self.dtype != "float64" or self.device != "cpu":
            raise TsdistillError("gradient-rule is checked in float64 on the cpu; leave --dtype and --device")
        if max(self.depths) > 50:
            raise TsdistillError(f"--depths {max(self.depths)}: give 50 or fewer")


def run(settings: GradientRule, context: Context) -> Outcome:
    """Random pairs against autograd, then one pair while it learns."""
    context.tell("random pairs", 0, 2)
    kinds = families(settings.depths, settings.repeats, settings.slope, settings.seed)
    context.tell("training", 1, 2)
    pair = trained(settings.steps, settings.seed)
    context.tell("done", 2, 2)
    largest = max(item["largest"] for item in kinds)
    output = max(item["output"] for item in kinds)
    pairs = sum(item["pairs"] for item in kinds)
    silent = sum(item["silent"] for item in kinds)
    first, last = pair["course"][0], pair["course"][-1]
    ratio = [
        (row[2] / row[0], end[2] / end[0]) for row, end in zip(first["layers"], last["layers"], strict=True)
    ]
    shares = ", ".join(
        f"layer {place + 1}: {high:.2f} → {low:.1e}" for place, (high, low) in enumerate(ratio)
    )
    claims = (
        Claim(
            "The gradient of a node is D (A f* − B f), for any depth, ReLU and Leaky ReLU, MLPs and "
            "ConvNets.",
            f"{PAPER}, Lemma 1",
            f"{pairs} random pairs ({silent} with a student that is 0 at every sample), {len(kinds)} "
            f"kinds, every layer: within {largest:.1e} of autograd, "
            f"relative ({_EXACT:.0e} allowed)",
            largest < _EXACT,
        ),
        Claim(
            "V_l f_l is the output: the network is linear above every layer, with biases as a constant node.",
            f"{PAPER}, Lemma 1",
            f"within {output:.1e} of the output, relative ({_EXACT:.0e} allowed)",
            output < _EXACT,
        ),
        Claim(
            "E[β_kk] is the mean of (rᵀ ∂f/∂h_k)² over random r: one backward pass a vector.",
            "the definition of β; identity used for strength",
            f"root mean square deviation {pair['probe']['spread']:.2f} standard errors, largest "
            f"{pair['probe']['largest']:.1f} (5 allowed)",
            pair["probe"]["largest"] < 5,
        ),
        Claim(
            "As the gradient goes, what the teacher's nodes ask for and what the student's give cancel: "
            "A f* → B f.",
            f"{PAPER}, Lemma 1 (at zero gradient)",
            f"‖g‖ / ‖D A f*‖ from start to end of {settings.steps:,} steps: {shares} (a tenth of the "
            "start asked)",
            all(low < 0.1 * high for high, low in ratio),
        ),
    )
    rows = tuple(
        (item["act"], item["family"], item["pairs"], f"{item['largest']:.1e}", f"{item['output']:.1e}")
        for item in kinds
    )
    columns = ("activation", "networks", "pairs", "gradient, to autograd", "output")
    table = Table("Lemma 1 against autograd, largest relative difference", columns, rows)
    return Outcome("gradient-rule", {}, claims, (table,), {"families": kinds, **pair})


EXPERIMENT = Experiment(
    settings=GradientRule, quick={"depths": (1, 2, 4), "repeats": 12, "steps": 4000}, run=run
)
