"""What `python -m pipeline.check` does: options, shaders compiled and linted, a kernel run, the report."""
