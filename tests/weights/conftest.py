"""The small models of the method's tests."""

from tests.method.conftest import clip, model, run, sinkhorn

__all__ = ["clip", "model", "run", "sinkhorn"]
