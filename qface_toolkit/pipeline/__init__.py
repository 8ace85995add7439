"""What the command line and the Python API do: the only package that knows every part."""

from qface_toolkit.pipeline._benchmark import Benchmark, Timed, benchmark
from qface_toolkit.pipeline._check import check, measure_beside
from qface_toolkit.pipeline._compress import compress, run_job
from qface_toolkit.pipeline._estimate import estimate_cost
from qface_toolkit.pipeline._evaluate import EvaluationSet, evaluate, write_evaluation
from qface_toolkit.pipeline._export import export, export_all, exported_values
from qface_toolkit.pipeline._inspect import inspect, layers_beside_float
from qface_toolkit.pipeline._planning import plan_job, read_full_recipe
from qface_toolkit.pipeline._sensitivity import sensitivity
from qface_toolkit.pipeline._speed import Expected, expect
from qface_toolkit.pipeline._suite import evaluate_suite, write_suite
from qface_toolkit.pipeline._train import run_training, train
from qface_toolkit.pipeline._training_plan import TrainingPlan, plan_training
from qface_toolkit.pipeline._verify import verify
from qface_toolkit.result.job import Job, Tell, silent

__all__ = [
    "Benchmark",
    "Job",
    "EvaluationSet",
    "Expected",
    "Tell",
    "Timed",
    "TrainingPlan",
    "benchmark",
    "check",
    "compress",
    "estimate_cost",
    "evaluate",
    "evaluate_suite",
    "expect",
    "export",
    "export_all",
    "exported_values",
    "inspect",
    "layers_beside_float",
    "measure_beside",
    "plan_job",
    "plan_training",
    "read_full_recipe",
    "run_job",
    "run_training",
    "sensitivity",
    "silent",
    "train",
    "verify",
    "write_evaluation",
    "write_suite",
]
