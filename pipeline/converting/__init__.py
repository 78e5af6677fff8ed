"""What `python -m pipeline.convert` is made of: which tensors MLX wants, their arithmetic, and writing them safely."""
