"""What `python -m pipeline.bench` is made of; docs/benchmarks.md describes it."""
