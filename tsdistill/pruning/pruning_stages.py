"""The stages of pruning and what they cost, for an estimate of how long it will take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tsdistill.evaluation.evaluator import EVALUATE
from tsdistill.evaluation.model_comparison import comparison_stages
from tsdistill.options.data_options import DataOptions
from tsdistill.options.pruning_options import RealignOptions
from tsdistill.pruning.realignment import TURNS
from tsdistill.pruning.realignment.reconstruction import STAGE
from tsdistill.pruning.rounds import rounds_for
from tsdistill.pruning.selection.budget import Budget
from tsdistill.statistics.analysis_stages import analysis_stages

CHOOSE, CUT = "choosing nodes", "cutting"
BASES = "bases of attention heads"

# Costs in forward passes of one sample, measured on ResNet-18 (224x224) and a ResNet-20 (28x28) on one core.
_CHOOSE = 60.0
"""Of a plan, whatever the number of samples."""
_CUT, _CUT_SAMPLES = 4.0, 128
"""Of each of the first so many samples, which norms and outputs are compared on."""
_LAYERS, _TURN = 10.0, 12.0
"""Of each sample: fitting the layers one by one, and moving those of blocks together once."""

_TYPICAL = 0.4
"""The part of the MACs that an average trial of a search keeps: it goes from 1 to 0.05 in halves."""

_UNKNOWN = 0.5
"""The part that a budget keeps which is no part, before the model has been measured."""


def round_name(number: int, rounds: int) -> str:
    """What the stages of a round begin with."""
    return f"round {number}: " if rounds > 1 else ""


def pruning_stages(
    samples: int | None,
    rounds: int,
    *,
    realigns: bool,
    joint: bool = True,
    teacher: bool = False,
    analysed: bool = True,
) -> dict[str, float]:
    """Stage -> cost in forward passes of one sample, of all rounds.

    Args:
        samples: how many are looked at; nothing is expected where that is not known.
        rounds: how many there will be.
        realigns: whether each ends with a re-alignment.
        joint: whether that moves the layers of blocks together.
        teacher: whether another model's nodes count.
        analysed: whether the analysis for the first round has been made.
    """
    if samples is None:
        return {}
    stages = {} if analysed else analysis_stages(samples, teacher=teacher)
    for number in range(1, rounds + 1):
        turns = (TURNS if number == rounds else 1) if joint else 0
        analysis = analysis_stages(samples, teacher=teacher) if number > 1 else {}
        work = {**analysis, CHOOSE: _CHOOSE, CUT: _CUT * min(samples, _CUT_SAMPLES)}
        if realigns:
            work[STAGE] = (_LAYERS + _TURN * turns) * samples
        stages.update({round_name(number, rounds) + name: cost for name, cost in work.items()})
    return stages


def rounds_expected(budget: Budget | None, rounds: int | None, realigns: bool) -> int:
    """How many rounds there will be, as far as that is known before the model has been measured."""
    if budget is None:
        return 1
    return rounds_for(_UNKNOWN if budget.kept is None else budget.kept, rounds, realigns)


def cut_stages(
    realignment: RealignOptions,
    samples: int | None,
    budget: Budget | None,
    *,
    lossless: bool = False,
    teacher: bool = False,
    analysed: bool = True,
) -> dict[str, float]:
    """The stages of one `prune_result` on ``samples`` of real data."""
    realigns = realignment.realign is not False and not lossless
    return pruning_stages(
        samples,
        rounds_expected(budget, realignment.rounds, realigns),
        realigns=realigns,
        joint=realignment.moves_blocks,
        teacher=teacher,
        analysed=analysed,
    )


def search_stages(
    realignment: RealignOptions,
    samples: int | None,
    trials: int,
    judged: int | None,
    *,
    teacher: bool = False,
    analysed: bool = False,
) -> dict[str, float]:
    """The stages of `prune_to_drop`: trials, each of which is a cut and is judged.

    Args:
        realignment: what is done about the nodes that stay.
        samples: how many pruning sees; nothing is expected where that is not known.
        trials: at most so many.
        judged: how many samples judge.
        teacher: whether another model's nodes count.
        analysed: whether the analysis has been made.
    """
    if samples is None or judged is None:
        return {}
    one = cut_stages(realignment, samples, Budget("macs", _TYPICAL), teacher=teacher)
    names = [trial_name(number) for number in range(1, trials + 1)]
    first = {} if analysed else analysis_stages(samples, teacher=teacher)
    return {**first, **several(names, {**one, EVALUATE: 2.0 * judged})}


def sweep_stages(
    realignment: RealignOptions,
    inputs: DataOptions,
    budgets: Mapping[str, Budget],
    judged: int | None,
    *,
    teacher: bool = False,
    analysed: bool = False,
) -> dict[str, float]:
    """The stages of `sweep`: a cut for each of ``budgets``, by the name that its stages begin with, and the
    comparison on ``judged`` samples."""
    samples = inputs.samples
    if samples is None or judged is None:
        return {}
    stages = {} if analysed else analysis_stages(samples, teacher=teacher)
    for name, budget in budgets.items():
        stages.update(several([name], cut_stages(realignment, samples, budget, teacher=teacher)))
    return {**stages, **comparison_stages(len(budgets) + 1, judged, inputs.batch_size)}


def trial_name(number: int) -> str:
    """What the stages of a trial begin with."""
    return f"trial {number}: "


def several(names: Sequence[str], stages: Mapping[str, float]) -> dict[str, float]:
    """The same stages for each of several cuts, whose names they begin with."""
    return {name + stage: cost for name in names for stage, cost in stages.items()}
