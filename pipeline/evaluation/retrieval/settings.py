"""`benchmarks.retrieval`: how deep a ranking is looked at."""

from __future__ import annotations

from pipeline.evaluation.benchmark import BenchmarkSettings
from pipeline.evaluation.settings import Counts


class Retrieval(BenchmarkSettings):
    """Test clips as queries, train clips as gallery (docs/probing.md)."""

    k: Counts  # train clips that are looked at, the nearest first: R@k for each
