"""Checkpoints: Hugging Face's and MLX's folders and GGUF files, with their tokenizers and chat templates."""
