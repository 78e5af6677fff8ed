"""What the tools of other libraries say of quantised weights in config.json: compressed-tensors, GPTQ, AWQ, fp8."""
