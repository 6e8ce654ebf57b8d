"""Benchmark I: which class a clip is of, asked of probes on features and of fine-tuned encoders."""
