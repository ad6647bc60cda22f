"""How a training goes: one frozen object, from defaults, a file and what the caller says."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tsdistill.errors import TsdistillError
from tsdistill.options.data_options import strategy_name
from tsdistill.options.loss_weights import weighted_losses
from tsdistill.options.option_fields import LARGEST_SEED, OptionSet, option
from tsdistill.options.output_options import IGNORE_INDEX, IGNORED, OUTPUTS, parse_stated

FREEZE = ("auto", "yes", "no")
"""What may be said of batch norms (see ``freeze_bn``)."""

PRECISIONS = ("no", "bf16", "fp16")

FREE = frozenset(
    {"device", "strict", "checkpoint_steps", "checkpoint_minutes", "tracker", "cache_teacher", "workers"}
)
"""Options that a resumed run may have otherwise: the weights at the end stay the same. (Of streams, whose
order depends on it, the number of workers stays as well.)"""

_RATES = {"sgd": 0.1, "nesterov": 0.1, "momentum": 0.1}
"""Learning rates that optimizers usually get where none is given."""

_RATE = 1e-3
"""That of all others."""


@dataclass(frozen=True)
class TrainOptions(OptionSet):
    """How a training goes."""

    epochs: int = option(10, "Passes over the data.", section="Length", metavar="N", least=1)
    steps: int | None = option(
        None,
        "Stop after so many updates, whatever the epochs; the schedule ends there too.",
        section="Length",
        metavar="N",
        least=1,
    )
    batch_size: int = option(
        128, "Samples in a batch, over all processes together.", section="Data", metavar="N", least=1
    )
    accumulate: int = option(1, "Batches that make up one update.", section="Optimizer", metavar="N", least=1)
    samples: int | None = option(None, "Use so many of the data.", section="Data", metavar="N", least=1)
    loss: Mapping[str, float] = option(
        factory=dict,
        help="soft-targets:T=4, 0.5*mse@boxes ... (see `tsdistill plugins`); again for a weighted sum. "
        "Without it soft targets with a teacher (the relative squared error for outputs that hold no class "
        "scores), the labels' cross-entropy without.",
        section="Loss",
        metavar="[W*]NAME[@OUTPUT]",
        form="texts",
    )
    outputs: Mapping[str, str] = dataclasses.field(default_factory=dict, metadata={"option": OUTPUTS})
    ignore_index: int = dataclasses.field(default=IGNORED, metadata={"option": IGNORE_INDEX})
    renew_steps: int = option(
        0,
        "Losses renew their matches after so many updates as well as at every epoch; 0: not.",
        section="Loss",
        metavar="N",
        least=0,
    )
    augment: Any = option(
        "none", "Augmentation (see `tsdistill plugins`).", section="Data", metavar="NAME[+NAME]", form="text"
    )
    mixup: float = option(0.0, "timm's mixup alpha, 0 for none.", section="Data", metavar="A", least=0)
    cutmix: float = option(0.0, "timm's cutmix alpha, 0 for none.", section="Data", metavar="A", least=0)
    label_smoothing: float = option(
        0.0,
        "Part of the labels' probability that is spread over all classes.",
        section="Loss",
        metavar="P",
        least=0,
        below=1,
    )
    transform: Mapping[str, Any] | None = option(
        None,
        "Options of timm's training transform for pictures (scale, hflip, auto_augment ...), an empty table "
        "for its defaults; without it the evaluation transform.",
        section="Data",
    )
    optimizer: str = option("adamw", "timm's name of it.", section="Optimizer", metavar="NAME")
    lr: float | None = option(
        None,
        "Learning rate; without it 0.1 for SGD, 0.001 for others.",
        section="Optimizer",
        metavar="X",
        above=0,
    )
    momentum: float = option(0.9, "Of optimizers that have one.", section="Optimizer", least=0)
    weight_decay: float = option(
        0.01, "Of weights; norms and biases have none.", section="Optimizer", metavar="X", least=0
    )
    sched: str = option(
        "cosine",
        "timm's name of the learning rate's schedule; none holds it.",
        section="Optimizer",
        metavar="NAME",
    )
    warmup: float = option(
        0.0, "Epochs in which the rate rises from lr / 100.", section="Optimizer", metavar="E", least=0
    )
    min_lr: float = option(0.0, "Learning rate at which the schedule ends.", section="Optimizer", least=0)
    clip: float | None = option(
        None, "Largest norm of the gradient.", section="Optimizer", metavar="X", above=0
    )
    ema: float = option(
        0.0,
        "Keep a moving average of the weights of this decay (timm's ModelEmaV3); 0 for none.",
        section="Optimizer",
        metavar="D",
        least=0,
        below=1,
    )
    freeze_bn: str = option(
        "auto",
        "Batch norms keep their statistics; auto: where a pass in train mode alone takes the student far "
        "from its teacher.",
        section="Optimizer",
        choices=FREEZE,
        metavar="",
    )
    amp: str = option(
        "no", "Precision of forward passes.", section="Hardware", choices=PRECISIONS, metavar=""
    )
    workers: int = option(
        0,
        "Processes that read and decode, for each process that trains.",
        section="Hardware",
        metavar="N",
        least=0,
    )
    seed: int = option(0, "Of everything random.", section="Data", metavar="N", least=0, most=LARGEST_SEED)
    device: str = option(
        "auto",
        "cpu, cuda, cuda:1, mps; auto: a GPU where there is one.",
        section="Hardware",
        metavar="DEVICE",
    )
    strict: bool = option(
        False,
        "A sample that cannot be read is an error; without it, it is left out and counted.",
        section="Data",
        metavar="",
    )
    cache_teacher: bool = option(
        False, "Keep its outputs on disk; for samples that do not change.", section="Teacher", metavar=""
    )
    shard_teacher: bool = option(
        False,
        "Spread its weights over the processes (FSDP), for good; it gives its outputs and nothing else then.",
        section="Teacher",
        metavar="",
    )
    track: bool = option(
        True,
        "Follow the alignment with the teacher from epoch to epoch.",
        section="Output",
        metavar="",
        form="switch",
    )
    tracker: str | None = option(
        None,
        "Send figures to tensorboard, wandb ... as well, as accelerate names it.",
        section="Output",
        metavar="NAME",
    )
    checkpoint_steps: int = option(
        500,
        "Updates from one checkpoint to the next, besides those at the ends of epochs.",
        section="Output",
        metavar="N",
        least=1,
    )
    checkpoint_minutes: float = option(
        10.0, "Minutes after which a checkpoint is written as well; 0: no such.", section="Output", least=0
    )

    tokenizer: Any = option(
        None,
        "What makes tokens of text, in place of what the models say: a folder, a tokenizer.json, a name of "
        "the hub or an object.",
        section="Data",
    )
    length: int | None = option(None, "Tokens in a sequence of text, likewise.", section="Data", least=2)

    @property
    def rate(self) -> float:
        """The learning rate: the one given, or what the optimizer usually gets."""
        return self.lr if self.lr is not None else _RATES.get(self.optimizer.lower(), _RATE)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with the resolved learning rate."""
        named = self.tokenizer is None or isinstance(self.tokenizer, str)
        tokenizer = self.tokenizer if named else type(self.tokenizer).__name__
        plain = dataclasses.asdict(dataclasses.replace(self, tokenizer=tokenizer))
        return {**plain, "lr": self.rate, "loss": dict(self.loss), "outputs": dict(self.outputs)}

    @classmethod
    def words(cls) -> str:
        """What these options are of, for messages."""
        return "training"

    @classmethod
    def converted(cls, name: str, value: Any, at: str) -> Any:
        """A loss from text, a list or objects, outputs from text; a transform's options are a mapping.

        Raises:
            TsdistillError: the value has another form.
        """
        if name == "loss":
            return weighted_losses(value, at)
        if name == "augment":
            return strategy_name(value)
        if name == "outputs":
            return parse_stated(value, at)
        if name == "transform" and not isinstance(value, Mapping | None):
            raise TsdistillError(f"{at}transform takes a table of options, not a {type(value).__name__}")
        return value


def differences(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """What is not as it was: ``"lr was 0.1 and is 0.01"``, by name; options of `FREE` aside."""
    names = [name for name in {**before, **now} if name not in FREE]
    return [
        f"{name} was {_shown(before.get(name))} and is {_shown(now.get(name))}"
        for name in names
        if before.get(name) != now.get(name)
    ]


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
