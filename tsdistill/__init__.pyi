from tsdistill import lab as lab
from tsdistill.alignment import AlignmentHistory as AlignmentHistory
from tsdistill.alignment import AlignmentReport as AlignmentReport
from tsdistill.alignment import Thresholds as Thresholds
from tsdistill.alignment import analyze as analyze
from tsdistill.alignment import analyze_training as analyze_training
from tsdistill.data import open_data as open_data
from tsdistill.distillation import TrainResult as TrainResult
from tsdistill.distillation import distill as distill
from tsdistill.distillation import train as train
from tsdistill.errors import TsdistillError as TsdistillError
from tsdistill.evaluation import Comparison as Comparison
from tsdistill.evaluation import compare as compare
from tsdistill.evaluation import evaluate as evaluate
from tsdistill.exporting import Exported as Exported
from tsdistill.exporting import export as export
from tsdistill.models import example_input as example_input
from tsdistill.models import info_of as info_of
from tsdistill.models import load as load
from tsdistill.models import save as save
from tsdistill.plugins import hookimpl as hookimpl
from tsdistill.pruning import PruneResult as PruneResult
from tsdistill.pruning import PruningPlan as PruningPlan
from tsdistill.pruning import plan as plan
from tsdistill.pruning import predict_cuts as predict_cuts
from tsdistill.pruning import prune as prune
from tsdistill.pruning import prune_result as prune_result
from tsdistill.pruning import prune_to_drop as prune_to_drop
from tsdistill.pruning import sweep as sweep
from tsdistill.tracing import NodeGraph as NodeGraph
from tsdistill.tracing import cut as cut
from tsdistill.tracing import trace as trace

__all__: list[str]
__version__: str
