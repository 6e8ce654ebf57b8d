"""Measured speed, beside others in the same run; docs/benchmarks.md has how, and the numbers."""

import pipeline  # noqa: F401 - before PyTorch, which waits as this tells it to
