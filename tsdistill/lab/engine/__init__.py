"""Many small networks trained at once.

Students and teachers are stacks of S networks (`Networks`); student s learns from teacher s::

    teachers = decaying_teachers(range(32), 100, 5, 50, decay=1.0)
    students = random_students(range(32), 100, (50,), 50, scale=0.1)
    x = GaussianSamples(7, 100).rows(4096)
    train(students, teachers, GaussianSamples(0, 100), steps=10_000, batch=16, rate=0.01,
          record=lambda step, now: print(step, best_correlations(teachers, now, x)[0].mean()), at=(0, 10_000))
"""

from tsdistill.lab.engine.memory_estimate import training_device
from tsdistill.lab.engine.network_stack import Networks, stacked
from tsdistill.lab.engine.node_statistics import (
    ALIGNED,
    OBSERVED_SAMPLES,
    best_correlations,
    correlations,
    deviations,
    energies,
    fan_out_norms,
    losses,
    modulations,
    relative_losses,
)
from tsdistill.lab.engine.random_draws import (
    FiniteSamples,
    GaussianSamples,
    Samples,
    decaying_teachers,
    deep_teachers,
    generator_of,
    random_students,
)
from tsdistill.lab.engine.result_cache import cached, cached_tensors, sweep
from tsdistill.lab.engine.sgd import teacher_outputs, train
from tsdistill.lab.engine.training_record import TrainingRecord, observation_steps, train_and_record

__all__ = [
    "ALIGNED",
    "OBSERVED_SAMPLES",
    "FiniteSamples",
    "GaussianSamples",
    "Networks",
    "Samples",
    "TrainingRecord",
    "best_correlations",
    "cached",
    "cached_tensors",
    "correlations",
    "decaying_teachers",
    "deep_teachers",
    "deviations",
    "energies",
    "fan_out_norms",
    "generator_of",
    "losses",
    "modulations",
    "observation_steps",
    "random_students",
    "relative_losses",
    "stacked",
    "sweep",
    "teacher_outputs",
    "train",
    "train_and_record",
    "training_device",
]
