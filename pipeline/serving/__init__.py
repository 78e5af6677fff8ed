"""The server of `python -m pipeline.serve`: requests of OpenAI's interface in, texts of one scheduler out."""
