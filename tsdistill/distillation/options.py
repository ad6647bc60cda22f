"""How a training goes: one frozen object, from defaults, a file and what the caller says."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import create_model

from tsdistill.data.opener import LARGEST_SEED
from tsdistill.distillation.loss_weights import weighted_losses
from tsdistill.errors import TsdistillError
from tsdistill.evaluation.output_layout import parse_stated
from tsdistill.plugins import name_of
from tsdistill.printable import printable
from tsdistill.schema import LARGEST_OPTIONS, Integer, Schema, parse, validated
from tsdistill.untrusted import read_text

CHOICES = ("auto", "yes", "no")
"""What may be said of batch norms (see ``freeze_bn``)."""

PRECISIONS = ("no", "bf16", "fp16")

_KINDS = {".toml": "toml", ".yaml": "yaml", ".yml": "yaml", ".json": "json"}
_WAY_OUT = "mend the file"
_LONGEST_OPTION = 40
"""Characters by which an unknown name is compared with those there are; the longest has 18."""

FREE = frozenset(
    {"device", "strict", "checkpoint_steps", "checkpoint_minutes", "tracker", "cache_teacher", "workers"}
)
"""Options that a resumed run may have otherwise: the weights at the end stay the same. (Of streams, whose
order depends on it, the number of workers stays as well.)"""


@dataclass(frozen=True)
class Options:
    """How a training goes.

    Attributes:
        epochs: passes over the data.
        steps: stop after so many updates, whatever the epochs; the schedule ends there too.
        batch_size: samples in a batch, over all processes together.
        accumulate: batches that make up one update.
        samples: use so many samples of the data.
        loss: what is made small: loss -> weight, such as ``{"soft-targets:T=4": 1, "node-alignment": 0.5}``;
            ``{"mse@boxes": 1}`` for one of several outputs; empty for soft targets with a teacher (the
            relative squared error for outputs that hold no class scores), labels' cross-entropy without.
        outputs: what the student's outputs hold, where it is not plain: name -> ``"classes"``,
            ``"classes:DIM"``, ``"values"``, ``"unused"`` (see `tsdistill.evaluation.output_layout.layouts`).
        ignore_index: the label that counts for nothing; so does padding, where an attention mask is 0.
        renew_steps: losses renew their matches after so many updates as well as at every epoch; 0: not.
        augment: augmentation strategies (see ``tsdistill.augmentation.opened``), or one itself.
        mixup: timm's mixup alpha, 0 for none.
        cutmix: timm's cutmix alpha, 0 for none.
        label_smoothing: part of the labels' probability that is spread over all classes.
        transform: options of timm's training transform for pictures (``scale``, ``hflip``, ``auto_augment``
            ...), an empty mapping for its defaults; ``None`` for the evaluation transform.
        optimizer: timm's name of it.
        lr: learning rate; ``None``: 0.1 for SGD, 0.001 for all else.
        momentum: of optimizers that have one.
        weight_decay: of weights; norms and biases have none.
        sched: timm's name of the learning rate's schedule, ``"none"`` to hold it.
        warmup: epochs in which the rate rises from ``lr / 100``.
        min_lr: where the schedule ends.
        clip: largest norm of the gradient, ``None`` for any.
        ema: decay of a moving average of the weights (timm's ``ModelEmaV3``); 0 for none.
        freeze_bn: whether batch norms keep their statistics: ``"yes"``, ``"no"``, or ``"auto"``: where a pass
            over the training data in train mode alone takes the student far from its teacher.
        amp: ``"no"``, ``"bf16"`` or ``"fp16"`` in forward passes.
        workers: processes that read and decode, for each process that trains.
        seed: of everything random.
        device: ``"auto"`` (a GPU where there is one), ``"cpu"``, ``"cuda"``, ``"cuda:1"`` ...
        strict: a sample that cannot be read stops the run; it is left out and counted otherwise.
        cache_teacher: keep the teacher's outputs on disk; for samples that do not change.
        shard_teacher: spread the teacher's weights over the processes (FSDP), for good; it gives its outputs
            and nothing else then.
        track: follow the alignment of student and teacher from epoch to epoch.
        tracker: where figures go besides the log, as accelerate names it: ``"tensorboard"`` ...
        checkpoint_steps: updates from one checkpoint to the next, besides those at the ends of epochs.
        checkpoint_minutes: minutes after which one is written as well; 0: no such.
    """

    epochs: int = 10
    steps: int | None = None
    batch_size: int = 128
    accumulate: int = 1
    samples: int | None = None
    loss: Mapping[str, float] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    ignore_index: int = -100
    renew_steps: int = 0
    augment: str = "none"
    mixup: float = 0.0
    cutmix: float = 0.0
    label_smoothing: float = 0.0
    transform: Mapping[str, Any] | None = None
    optimizer: str = "adamw"
    lr: float | None = None
    momentum: float = 0.9
    weight_decay: float = 0.01
    sched: str = "cosine"
    warmup: float = 0.0
    min_lr: float = 0.0
    clip: float | None = None
    ema: float = 0.0
    freeze_bn: str = "auto"
    amp: str = "no"
    workers: int = 0
    seed: int = 0
    device: str = "auto"
    strict: bool = False
    cache_teacher: bool = False
    shard_teacher: bool = False
    track: bool = True
    tracker: str | None = None
    checkpoint_steps: int = 500
    checkpoint_minutes: float = 10.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "augment", name_of(self.augment))
        for each in dataclasses.fields(self):
            value = getattr(self, each.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise TsdistillError(f"{each.name} must be a finite number, not {value}")
        if self.seed > LARGEST_SEED:
            raise TsdistillError(f"seed must be at most 2**63 - 1, not {self.seed}")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise TsdistillError(f"{name} must be at least {least}, not {value}")
        for name in ("lr", "clip"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise TsdistillError(f"{name} must be above 0, not {value}")
        for name in ("label_smoothing", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise TsdistillError(f"{name} must be from 0 to below 1, not {getattr(self, name)}")
        if self.freeze_bn not in CHOICES:
            raise TsdistillError(f"freeze_bn is one of {', '.join(CHOICES)}, not {self.freeze_bn!r}")
        if self.amp not in PRECISIONS:
            raise TsdistillError(f"amp is one of {', '.join(PRECISIONS)}, not {self.amp!r}")

    @property
    def rate(self) -> float:
        """The learning rate: the one given, or what the optimizer usually gets."""
        if self.lr is not None:
            return self.lr
        return 0.1 if self.optimizer.lower() in ("sgd", "nesterov", "momentum") else 1e-3

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with the resolved learning rate."""
        plain = dataclasses.asdict(self)
        return {**plain, "lr": self.rate, "loss": dict(self.loss), "outputs": dict(self.outputs)}

    @classmethod
    def of(cls, given: Mapping[str, Any], where: str = "") -> Options:
        """Options by name.

        Args:
            given: name (dashes count as underscores) -> value; a loss may be given as text.
            where: the file that they come from, for messages.

        Raises:
            TsdistillError: a name or value that does not exist.
        """
        fields = {each.name: each for each in dataclasses.fields(cls)}
        at = f"{where}: " if where else ""
        known: dict[str, Any] = {}
        for key, value in given.items():
            name = str(key).replace("-", "_")
            if name not in fields:
                near = difflib.get_close_matches(name[:_LONGEST_OPTION], fields, n=1)
                way = f"did you mean {near[0]}?" if near else f"there are {', '.join(fields)}"
                raise TsdistillError(f"{at}there is no training option {printable(key, 60)!r}; {way}")
            known[name] = weighted_losses(value, at) if name == "loss" else value
            if name == "augment" and callable(value):
                known[name] = name_of(value)
            if name == "outputs" and isinstance(value, str):
                known[name] = parse_stated(value, at)
        valid = validated(_declared(), known, where or "the training", "mend it")
        if "outputs" in known:
            parse_stated(valid.outputs, at)  # type: ignore[attr-defined]
        read = {name: getattr(valid, name) for name in known}
        read.update({name: known[name] for name in ("loss", "augment") if name in known})  # not mere names
        return cls(**read)


@cache
def _declared() -> type[Schema]:
    """The options as a schema: their names with the types that `Options` declares."""
    hints = get_type_hints(Options)
    bounded = {int: Integer, int | None: Integer | None}
    declared: dict[str, Any] = {
        each.name: (bounded.get(hints[each.name], hints[each.name]), None)
        for each in dataclasses.fields(Options)
    }
    return create_model("TrainingOptions", __base__=Schema, **declared)


_LEAST = {
    "epochs": 1, "steps": 1, "batch_size": 1, "accumulate": 1, "samples": 1, "renew_steps": 0, "mixup": 0,
    "cutmix": 0, "weight_decay": 0, "warmup": 0, "min_lr": 0, "momentum": 0, "workers": 0, "seed": 0,
    "checkpoint_steps": 1, "checkpoint_minutes": 0,
}  # fmt: skip


def read_options(path: str | Path) -> dict[str, Any]:
    """The options in a TOML, YAML or JSON file, by name; the options.json of a run is one.

    Raises:
        TsdistillError: the file is missing, not of these kinds, or no mapping.
    """
    path = Path(path).expanduser()
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        raise TsdistillError(f"{path}: options are read from .toml, .yaml or .json; name such a file")
    found = parse(read_text(path, LARGEST_OPTIONS, _WAY_OUT), kind, path, _WAY_OUT)
    if isinstance(found, Mapping) and isinstance(found.get("options"), Mapping):
        found = found["options"]
    if not isinstance(found, Mapping):
        raise TsdistillError(f"{path} holds no options; write name = value lines")
    return {str(key): value for key, value in found.items()}


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
