"""Preparation of a training: everything is checked before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from tsdistill.data import open_data
from tsdistill.data.training_batch import Share, TrainingData
from tsdistill.data.training_data import open_training
from tsdistill.distillation.accelerator import accelerator_for
from tsdistill.distillation.alignment_tracker import AlignmentTracker, tracked_samples
from tsdistill.distillation.batch_preparation import BatchPreparation, check_labels, strategy_of
from tsdistill.distillation.checksums import fingerprint, fingerprint_of_samples
from tsdistill.distillation.ensemble import Ensemble, members_of
from tsdistill.distillation.loop import TrainingLoop
from tsdistill.distillation.loop_state import LoopContext
from tsdistill.distillation.losses import Batches, Combined, parse
from tsdistill.distillation.optimizer_step import OptimizerStep
from tsdistill.distillation.output_pairs import TrainedOutputs
from tsdistill.distillation.request import Request, default_loss, probe_batches, probe_outputs, probe_size
from tsdistill.distillation.run_folder import RunFolder
from tsdistill.distillation.run_writer import RunWriter
from tsdistill.distillation.teacher_outputs import CachedTeacher, NoTeacher, TeacherForward, shard
from tsdistill.distillation.training_log import TrainResult
from tsdistill.distillation.validation import (
    Validation,
    best_of,
    check_tracker,
    selection_metric,
    worsened,
)
from tsdistill.errors import TsdistillError
from tsdistill.evaluation.named_outputs import WHOLE
from tsdistill.models import info_of
from tsdistill.models.requirements import check_open, check_runnable
from tsdistill.options.data_options import DataOptions
from tsdistill.options.option_fields import written
from tsdistill.options.output_options import CLASSES
from tsdistill.options.train_options import TrainOptions
from tsdistill.runtime.nests import arguments_of
from tsdistill.runtime.seeds import mixed_seed

if TYPE_CHECKING:
    from accelerate import Accelerator

_LOSS_SEED = 7
"""Stream number of the random numbers that losses draw when they are attached; unlike those of the loop (6)
and of augmentation (5), so that no two streams are equal."""


def run(request: Request) -> TrainResult:
    """Train as the request says (see `tsdistill.distillation.distill`)."""
    check_open(request.student, "student")
    if request.teacher is not None:
        check_runnable(request.teacher, "teacher")
    if isinstance(request.data, Iterator):
        request = replace(request, data=list(request.data))
    options = request.options
    loss = parse(dict(options.loss)) if options.loss else None
    check_tracker(options.tracker)
    states = [(model, _device(model), model.training) for model in _unsharded_models(request)]
    folder = None if request.out is None else Path(request.out).expanduser()
    with accelerator_for(options, None if folder is None else str(folder)) as accelerator:
        run_folder = None if folder is None else RunFolder(folder, accelerator.is_main_process)
        main = accelerator.is_main_process
        try:
            result, tracker = _run(request, loss, accelerator, run_folder)
        finally:
            for model, device, training in states:
                model.to(device)
                model.train(training)
            request.student.eval()
    if tracker is None or not tracker.names or not main:
        return result
    return replace(result, history=tracker.history())


def _run(
    request: Request, named: Combined | None, accelerator: Accelerator, folder: RunFolder | None
) -> tuple[TrainResult, AlignmentTracker | None]:
    """The result without its history, and the tracker of the alignment."""
    options, student, teacher = request.options, request.student, request.teacher
    for model in _unsharded_models(request):
        model.to(accelerator.device)
    data = _open(request, accelerator)
    teacher_fingerprint = None if teacher is None else fingerprint(teacher)
    if isinstance(teacher, Ensemble) and options.shard_teacher:
        raise TsdistillError(f"{written('shard_teacher')} spreads one teacher; give one, or leave it out")
    if teacher is not None and options.shard_teacher:
        shard(teacher, accelerator, named, options.augment)
    samples = probe_batches(request, accelerator.device, probe_size(named, options))
    outputs, labelled = probe_outputs(request, samples)
    losses = dict(options.loss) or dict.fromkeys(default_loss(outputs, teacher is not None, labelled), 1.0)
    loss = (named or parse(losses)).bound(outputs, labelled)
    labelled_output = labelled[0] if len(labelled) == 1 else None
    has_classes = labelled_output is not None and outputs.layouts[labelled_output].kind == CLASSES
    classes = outputs.classes(labelled_output) if labelled_output is not None and has_classes else 1
    if loss.needs_labels:
        if samples[0][1] is None:
            raise TsdistillError(f"the loss {loss.words} needs labels and the data have none: {data.name}")
        check_labels(data, classes if classes > 1 else None, options.ignore_index)
    identity = _identity(request, losses, data, accelerator, teacher_fingerprint, samples)
    state = _begin(folder, identity, request.resume, accelerator)
    generator = torch.Generator().manual_seed(mixed_seed(options.seed, _LOSS_SEED))
    first_teacher = None if teacher is None else members_of(teacher)[0]
    loss.attach(student, first_teacher, samples, generator)
    teacher_forward = _teacher_forward(request, loss, data, accelerator, folder, teacher_fingerprint)
    if options.tracker:
        accelerator.init_trackers("tsdistill")
    optimizer_step = OptimizerStep(
        student, _parameters_on(loss.parameters(), accelerator.device), options, accelerator, data.length
    )
    validation, notes = _validation(request, accelerator, data, outputs)
    writer = RunWriter(folder, options, optimizer_step.result, request.arch)
    spec = info_of(student).input
    mean, std = (None, None) if spec is None else (spec.mean, spec.std)
    strategy = strategy_of(options, first_teacher, samples, mean, std)
    context = LoopContext(
        request=request,
        accelerator=accelerator,
        data=data,
        preparation=BatchPreparation(
            options,
            strategy,
            classes if classes > 1 else None,
            loss.needs_labels,
            accelerator.process_index,
            student,
        ),
        outputs=outputs,
        teacher_forward=teacher_forward,
        loss=loss,
        samples=samples,
        optimizer_step=optimizer_step,
        writer=writer,
        validation=validation,
    )
    loop = TrainingLoop(context)
    if state is not None:
        loop.load(state)
        assert folder is not None
        folder.write_log(loop.log)
    else:
        writer.check()
    resumed = loop.position.updates if state is not None else None
    try:
        loop.run()
    finally:
        if options.tracker:
            accelerator.end_training()
    result = TrainResult(
        model=optimizer_step.result().eval(),
        options=replace(options, loss=losses),
        log=tuple(loop.log),
        folder=None if folder is None else folder.path,
        updates=loop.position.updates,
        skipped=loop.skipped,
        frozen_bn=optimizer_step.frozen,
        resumed=resumed,
        best=best_of(loop.log),
        judged_by=selection_metric(loop.log),
        notes=(
            *_notes(options, data, loss, outputs, loop, None if samples[0][1] is None else labelled),
            *_ensemble_notes(request),
            *notes,
            *validation.notes,
        ),
    )
    return result, validation.tracker


def _begin(
    folder: RunFolder | None, identity: Mapping[str, Any], resume: bool, accelerator: Accelerator
) -> dict[str, Any] | None:
    """The checkpoint of the first process; others may not see its disk."""
    state = folder.begin(identity, resume) if folder is not None and folder.writes else None
    if accelerator.num_processes > 1:
        from accelerate.utils import broadcast_object_list

        state = broadcast_object_list([state])[0]
    return state


def _unsharded_models(request: Request) -> list[nn.Module]:
    """The models that are not sharded."""
    if request.teacher is None or request.options.shard_teacher:
        return [request.student]
    return [request.student, *members_of(request.teacher)]


def _device(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def _open(request: Request, accelerator: Accelerator) -> TrainingData:
    options = request.options
    share = Share(accelerator.process_index, accelerator.num_processes)
    return open_training(
        request.data,
        request.inputs_spec,
        batch_size=options.batch_size,
        seed=options.seed,
        workers=options.workers,
        samples=options.samples,
        share=share,
        strict=options.strict,
        transform=options.transform,
        pin=accelerator.device.type == "cuda",
        arguments=arguments_of(request.student),
    )


def _identity(
    request: Request,
    losses: Mapping[str, float],
    data: TrainingData,
    accelerator: Accelerator,
    teacher_fingerprint: str | None,
    samples: Batches,
) -> dict[str, Any]:
    """What has to be equal in a resumed run."""
    from tsdistill.version import __version__

    options = {**request.options.to_dict(), "loss": dict(losses)}
    identity: dict[str, Any] = {"tsdistill": __version__, **request.identity, "data": data.description}
    if data.numbers is None:
        identity["workers"] = request.options.workers * accelerator.num_processes
    if data.repeatable:
        identity["first_samples"] = fingerprint_of_samples(samples[:1])
    if teacher_fingerprint is not None:
        identity["teacher_weights"] = teacher_fingerprint
    if isinstance(request.teacher, Ensemble):
        identity["shares_of_teachers"] = request.teacher.weights.tolist()
    return {**identity, "options": options}


def _teacher_forward(
    request: Request,
    loss: Combined,
    data: TrainingData,
    accelerator: Accelerator,
    folder: RunFolder | None,
    teacher_fingerprint: str | None,
) -> NoTeacher | TeacherForward | CachedTeacher:
    options, teacher = request.options, request.teacher
    if teacher is None:
        return NoTeacher()
    forward = TeacherForward(teacher, loss.teacher_taps, accelerator.autocast, members_of(teacher)[0])
    if not options.cache_teacher:
        return forward
    obstacles = {
        f"the augmentation {options.augment}": options.augment != "none",
        "mixup or cutmix": bool(options.mixup or options.cutmix),
        "a training transform": not data.fixed,
        "data without sample numbers": data.numbers is None,
        f"the loss {loss.words}, which reads the teacher's features,": bool(loss.teacher_taps),
        "a run without a folder": folder is None,
        "a teacher that is spread over processes": options.shard_teacher,
    }
    obstacle = next((name for name, applies in obstacles.items() if applies), None)
    if obstacle:
        raise TsdistillError(
            f"teacher outputs cannot be kept with {obstacle}; leave {written('cache_teacher')} out"
        )
    assert folder is not None
    assert data.numbers is not None
    identity: dict[str, Any] = {"teacher": teacher_fingerprint, "data": data.description, "amp": options.amp}
    if isinstance(teacher, Ensemble) and teacher.layouts is not None:
        identity["averaged"] = {name: vars(layout) for name, layout in teacher.layouts.items()}
    wait = accelerator.wait_for_everyone
    return CachedTeacher(
        forward, folder.path, data.numbers, identity, accelerator.is_local_main_process, wait
    )


def _validation(
    request: Request, accelerator: Accelerator, data: TrainingData, outputs: TrainedOutputs
) -> tuple[Validation, tuple[str, ...]]:
    """The measurements after each epoch, and notes for people."""
    options, teacher, held_out = request.options, request.teacher, None
    if request.held_out is not None:
        spec = request.inputs_spec
        size, arguments = min(options.batch_size, 256), arguments_of(request.student)
        reading = DataOptions(batch_size=size, strict=options.strict)
        held_out = open_data(request.held_out, spec, reading, arguments=arguments)
    tracker: AlignmentTracker | None = None
    notes: tuple[str, ...] = ()
    if options.track and options.shard_teacher:
        notes = ("alignment is not followed: the teacher is spread over the processes",)
    elif options.track and teacher is not None:
        tracked = probe_batches(request, accelerator.device, tracked_samples(data.samples))
        try:
            tracker = AlignmentTracker(
                request.student,
                members_of(teacher)[0],
                tracked,
                seed=options.seed,
                description=data.description,
            )
        except TsdistillError as error:
            notes = (f"alignment is not followed: {error}",)
    stated = {**options.outputs, **outputs.excluded}
    return Validation(accelerator, options, stated, held_out, teacher, tracker), notes


def _parameters_on(parameters: Any, device: torch.device) -> list[nn.Parameter]:
    moved = list(parameters)
    for parameter in moved:
        parameter.data = parameter.data.to(device)
    return moved


def _ensemble_notes(request: Request) -> list[str]:
    """Notes on several teachers."""
    if not isinstance(request.teacher, Ensemble):
        return []
    shares = ", ".join(f"{share:.3g}" for share in request.teacher.weights.tolist())
    return [
        f"{len(request.teacher.members)} teachers, weights {shares}: class scores are averaged in "
        "probability, other outputs as they are; losses of nodes, augmentations and the alignment look at "
        "the first"
    ]


def _notes(
    options: TrainOptions,
    data: TrainingData,
    loss: Combined,
    outputs: TrainedOutputs,
    loop: TrainingLoop,
    labelled: Sequence[str] | None,
) -> tuple[str, ...]:
    """Lines for people on a training that has ended.

    Args:
        options: as the caller gave them.
        data: what was read.
        loss: what was made small.
        outputs: of student and teacher.
        loop: the training.
        labelled: the outputs that labels are for, ``None`` for data without labels.
    """
    notes = [data.description, f"loss: {loss.words}", *outputs.notes]
    assumed_classes = not loss.needs_labels and labelled is None and list(outputs.layouts) == [WHOLE]
    if assumed_classes and not options.loss and not options.outputs and loss.terms[0].reads == CLASSES:
        notes.append(
            "the output is taken for class scores, as its shape has classes; where it holds values say so "
            f"with {written('outputs', 'output=values')}"
        )
    without_loss = loss.outputs_without_loss(outputs)
    if without_loss:
        notes.append(
            f"no loss is for {', '.join(without_loss)}: what the student gives there is left to chance"
        )
    has_class_labels = any(outputs.layouts[name].kind == CLASSES for name in labelled or ())
    if has_class_labels and not loss.needs_labels:
        notes.append(
            "the data have labels and the loss does not read them: where they number the model's outputs, "
            "0.5*soft-targets + 0.5*cross-entropy learns from them too"
        )
    if loop.skipped:
        notes.append(f"{loop.skipped} times a sample could not be read and was left out")
    notes += loop.notes
    warning = worsened(loop.log)
    return tuple([*notes, warning] if warning else notes)
