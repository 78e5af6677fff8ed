"""The work of `python -m pipeline.bench`; docs/benchmarks.md describes it."""
