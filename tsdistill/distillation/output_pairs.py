"""The outputs of a student and its teacher, as losses compare them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tsdistill.errors import TsdistillError
from tsdistill.evaluation.counted_positions import counted, labels_for
from tsdistill.evaluation.named_outputs import WHOLE, main_name
from tsdistill.evaluation.output_layout import Layout, class_output, layouts, paired
from tsdistill.options.option_fields import written
from tsdistill.options.output_options import CLASSES, UNUSED
from tsdistill.runtime.finite import non_finite


@dataclass(frozen=True)
class TrainedOutputs:
    """What the outputs of a student are, and which of the teacher's goes with each.

    Attributes:
        layouts: of the student's outputs, by name.
        shapes: theirs, for one batch.
        main: the name of the one that stands for the whole.
        teacher: the teacher's name of each output that both models have; empty without a teacher.
        differing: the teacher's shape of those that cannot be compared.
    """

    layouts: Mapping[str, Layout]
    shapes: Mapping[str, tuple[int, ...]]
    main: str
    teacher: Mapping[str, str]
    differing: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(
        cls,
        student: Mapping[str, Tensor],
        teacher: Mapping[str, Tensor] | None,
        stated: Mapping[str, str] | None = None,
        target: Any = None,
    ) -> TrainedOutputs:
        """What two models give for one batch.

        Args:
            student: its outputs, by name.
            teacher: likewise; ``None`` without one.
            stated: what the user says of the student's outputs.
            target: the labels of the batch.

        Raises:
            TsdistillError: ``stated`` does not fit the outputs.
        """
        pairs = {} if teacher is None else paired(student, teacher)
        differing = {
            name: tuple(teacher[other].shape)
            for name, other in pairs.items()
            if teacher is not None and teacher[other].shape != student[name].shape
        }
        shapes = {name: tuple(tensor.shape) for name, tensor in student.items()}
        return cls(layouts(student, stated, target), shapes, main_name(student), pairs, differing)

    @property
    def used(self) -> tuple[str, ...]:
        """The outputs that losses are for: all that the user did not leave out and, with a teacher, that both
        models give in one shape; the main one in any case."""
        return tuple(
            name
            for name, layout in self.layouts.items()
            if layout.kind != UNUSED and (name == self.main or self._comparable(name))
        )

    def _comparable(self, name: str) -> bool:
        return not self.teacher or (name in self.teacher and name not in self.differing)

    @property
    def words(self) -> str:
        """The outputs for people: ``"boxes (8, 64, 4), scores (8, 64, 5)"``."""
        return ", ".join(f"{name} {shape}" for name, shape in self.shapes.items())

    @property
    def notes(self) -> list[str]:
        """Lines on outputs that cannot be taught."""
        lines = []
        for name, layout in self.layouts.items():
            if name in self.used or layout.kind == UNUSED:
                continue
            cause = (
                f"has the shape {self.differing[name]} in the teacher and {self.shapes[name]} in the student"
                if name in self.differing
                else "is not given by the teacher"
            )
            lines.append(f"the output {name} is not taught: it {cause}")
        return lines

    @property
    def excluded(self) -> dict[str, str]:
        """The outputs that losses and held-out figures leave out, as the user would state them."""
        return {name: UNUSED for name in self.layouts if name not in self.used}

    def labelled(self, outputs: Mapping[str, Tensor], target: Any) -> list[str]:
        """The outputs that labels are for: those that a mapping names, else the one that they fit, else the
        one of classes."""
        if isinstance(target, Mapping):
            return [name for name in self.used if name in target]
        classes = [name for name in self.used if self.layouts[name].kind == CLASSES]
        fitting = [
            name for name in classes if labels_for(self.layouts[name], outputs[name], target) is not None
        ]
        known = {name: self.layouts[name] for name in outputs}
        return fitting[:1] or [class_output(outputs, known)]

    def classes(self, name: str) -> int:
        """The size of the dimension of an output's classes; 1 where it has none."""
        axis = self.layouts[name].axis
        return 1 if axis is None else self.shapes[name][axis]

    def check(self, loss: str, name: str) -> None:
        """See that there is an output.

        Raises:
            TsdistillError: there is not; says which there are.
        """
        if name not in self.layouts:
            raise TsdistillError(
                f"the loss {loss}: the student has no output {name!r}; it gives {self.words}"
            )
        if self.teacher and name not in self.teacher:
            raise TsdistillError(f"the loss {loss}: the teacher gives no output {name!r}")

    def check_classes(self, loss: str, name: str) -> None:
        """See that there are classes to tell apart.

        Raises:
            TsdistillError: there are not.
        """
        if self.classes(name) < 2:
            raise TsdistillError(
                f"the loss {loss} compares class probabilities, and the output {name} of shape "
                f"{self.shapes[name]} has no two classes; give {written('loss', 'mse')}, or logits"
            )

    def check_same(self, name: str) -> None:
        """See that both models give an output in one shape.

        Raises:
            TsdistillError: they differ.
        """
        student_shape, teacher_shape = self.shapes[name], self.differing.get(name)
        if teacher_shape is None:
            return
        if len(student_shape) == len(teacher_shape) == 2:
            raise TsdistillError(
                f"the student has {student_shape[1]} classes and the teacher {teacher_shape[1]}; give two "
                f"models of the same classes (timm:NAME,num_classes={teacher_shape[1]})"
            )
        raise TsdistillError(
            f"the student's output has shape {student_shape} and the teacher's {teacher_shape}; give models "
            "of one task"
        )

    def student_outputs(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a training forward of the student gives, by the names of `layouts`.

        A model may give more or other outputs in training (auxiliary classifiers, say); without common names
        they go by place, or the main one is taken.

        Raises:
            TsdistillError: the main output is not among them.
        """
        named = {name: outputs[other] for name, other in paired(self.layouts, outputs).items()}
        if self.main not in named:
            raise TsdistillError(
                f"the student gives no output {self.main} in train mode, but {', '.join(outputs)}; give a "
                "model whose outputs have the same names in train and evaluation mode"
            )
        return named

    def check_training(self, outputs: Mapping[str, Tensor], training: Mapping[str, Tensor]) -> None:
        """Check the outputs of the student in training mode.

        Args:
            outputs: of a batch in evaluation mode, by name.
            training: of the same batch in training mode.

        Raises:
            TsdistillError: an output that takes part is missing or has another number of dimensions.
        """
        student = self.student_outputs(training)
        for name in self.used:
            if name in student and name in outputs and student[name].ndim != outputs[name].ndim:
                shapes = [tuple(tensors[name].shape) for tensors in (student, outputs)]
                raise TsdistillError(
                    f"the student's output {name} has shape {shapes[0]} in training mode and {shapes[1]} in "
                    "evaluation mode; give a model that returns the same in both"
                )

    def non_finite_teacher_output(
        self,
        student_outputs: Mapping[str, Tensor],
        teacher_outputs: Mapping[str, Tensor],
        x: Any,
        y: Any,
        ignore_index: int,
    ) -> str | None:
        """The first of the teacher's outputs that is not finite at a position that counts, in words; ``None``
        where all are.

        Args:
            student_outputs: the student's outputs of a batch, by name.
            teacher_outputs: the teacher's, by the student's names.
            x: the inputs of the batch.
            y: its labels.
            ignore_index: the label that counts for nothing.
        """
        for name in self.used:
            if (
                name not in student_outputs
                or name not in teacher_outputs
                or student_outputs[name].shape != teacher_outputs[name].shape
            ):
                continue
            layout = self.layouts[name]
            counted_positions = counted(layout, student_outputs[name], x, y, ignore_index)
            rows = layout.rows(teacher_outputs[name])
            counted_rows = rows if counted_positions is None else rows[counted_positions.to(rows.device)]
            if (fault := non_finite(counted_rows)) is not None:
                return fault if name == WHOLE else f"{fault} in its output {self.teacher.get(name, name)}"
        return None

    def teacher_outputs(self, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the teacher gives, by the student's names."""
        return {name: outputs[other] for name, other in self.teacher.items() if other in outputs}
