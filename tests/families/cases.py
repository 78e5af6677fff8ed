"""A tiny model of every family: its configuration as transformers takes it, with odd sizes, and how its weights lie.

`gains` scale matrices by what their names contain: routers that choose clearly, logits that differ.
"""

from dataclasses import dataclass, field

COMMON = {
    "vocab_size": 61, "hidden_size": 256, "num_hidden_layers": 5, "num_attention_heads": 6, "num_key_value_heads": 3,
    "head_dim": 32, "max_position_embeddings": 128, "tie_word_embeddings": False, "bos_token_id": None,
    "eos_token_id": None, "pad_token_id": None,
}  # fmt: skip
GAINS = {"embed_tokens": 16.0, "lm_head": 3.0, "gate.weight": 2.0, "router": 2.0}


@dataclass(frozen=True)
class Case:
    """model_type: of transformers; config: its arguments beside COMMON; zero_centred: norms add 1 to their weight."""

    model_type: str
    config: dict = field(default_factory=dict)
    zero_centred: bool = False
    mxfp4: bool = False

    @property
    def arguments(self) -> dict:
        return {name: value for name, value in (COMMON | self.config).items() if value != "absent"}


def _rope(theta: float = 10000.0, kind: str = "default", **rest) -> dict:
    return {"rope_theta": theta, "rope_type": kind} | rest


CASES = {
    "qwen3_moe": Case("qwen3_moe", {
        "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 256, "intermediate_size": 96,
        "norm_topk_prob": True, "rope_parameters": _rope(1e6)}),
}  # fmt: skip
