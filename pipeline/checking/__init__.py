"""The work of `python -m pipeline.check`: options, shaders compiled and linted, a kernel run, the report."""
