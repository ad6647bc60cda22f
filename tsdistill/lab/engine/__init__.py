"""Many small networks trained at once.

Students and teachers are stacks of S networks (`Networks`); student s learns from teacher s::

    teachers = decaying_teachers(range(32), 100, 5, 50, decay=1.0)
    students = drawn_students(range(32), 100, (50,), 50, scale=0.1)
    x = Fresh(7, 100).rows(4096)
    train(students, teachers, Fresh(0, 100), steps=10_000, batch=16, rate=0.01,
          record=lambda step, now: print(step, best_correlations(teachers, now, x)[0].mean()), at=(0, 10_000))
"""

from tsdistill.lab.engine.memory_estimate import check_room, place, training_bytes
from tsdistill.lab.engine.network_stack import Networks, of_modules, stacked
from tsdistill.lab.engine.node_statistics import (
    best_correlations,
    correlations,
    deviations,
    energies,
    fan_out_norms,
    losses,
    modulations,
)
from tsdistill.lab.engine.random_draws import (
    Finite,
    Fresh,
    Samples,
    decaying_teachers,
    drawn_students,
    generator_of,
    seen_teachers,
)
from tsdistill.lab.engine.result_cache import kept, kept_tensors
from tsdistill.lab.engine.sgd import targets, train
from tsdistill.lab.engine.training_record import Followed, follow, spaced

__all__ = [
    "Finite",
    "Followed",
    "Fresh",
    "Networks",
    "Samples",
    "best_correlations",
    "check_room",
    "correlations",
    "decaying_teachers",
    "deviations",
    "drawn_students",
    "energies",
    "fan_out_norms",
    "follow",
    "generator_of",
    "kept",
    "kept_tensors",
    "losses",
    "modulations",
    "of_modules",
    "place",
    "seen_teachers",
    "spaced",
    "stacked",
    "targets",
    "train",
    "training_bytes",
]
