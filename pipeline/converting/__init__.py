"""The work of `python -m pipeline.convert`: the tensors that MLX wants, their arithmetic, and writing them safely."""
