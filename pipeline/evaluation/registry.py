"""The registered benchmarks, in the order of their stages."""

from __future__ import annotations

from pipeline.evaluation.benchmark import Benchmark
from pipeline.evaluation.corruptions.benchmark import Corruptions
from pipeline.evaluation.few_shot.benchmark import FewShot
from pipeline.evaluation.order.benchmark import Order
from pipeline.evaluation.propagation.benchmark import Propagation
from pipeline.evaluation.readouts.benchmark import Readouts
from pipeline.evaluation.recognition.benchmark import Recognition
from pipeline.evaluation.retrieval.benchmark import Retrieval
from pipeline.evaluation.segmentation.benchmark import Segmentation
from pipeline.evaluation.severe.benchmark import Severe
from pipeline.evaluation.surprise.benchmark import Surprise

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Recognition(),
        Segmentation(),
        Severe(),
        Retrieval(),
        FewShot(),
        Order(),
        Corruptions(),
        Propagation(),
        Readouts(),
        Surprise(),
    )
}
