"""Steps become a plan, a plan becomes a chain: one command buffer per run."""
