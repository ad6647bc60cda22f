"""What a user may set, as frozen dataclasses: one field an option, with its type, range and help text.

The Python signatures, the command line's options, the keys of ``--config`` files and docs/options.md all come
from these classes. Nothing here imports PyTorch, so that ``--help`` is quick.
"""

from tsdistill.options.analysis_options import AnalysisOptions
from tsdistill.options.data_options import DataOptions, InputOptions
from tsdistill.options.pruning_options import JudgeOptions, RealignOptions, SelectionOptions
from tsdistill.options.train_options import TrainOptions

__all__ = [
    "AnalysisOptions",
    "DataOptions",
    "InputOptions",
    "JudgeOptions",
    "RealignOptions",
    "SelectionOptions",
    "TrainOptions",
]
