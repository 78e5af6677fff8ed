"""What the tests of the benchmark share: a tiny shape, a cache folder of their own, its command line."""

import json
from pathlib import Path

from pipeline import bench
from pipeline.benching import bandwidth

PEER_MODULES = Path(__file__).parent / "peer_modules"  # stand-ins for packages of peers

TINY = {
    "model_type": "qwen3_moe",
    "hidden_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "intermediate_size": 128,
    "moe_intermediate_size": 64,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "norm_topk_prob": True,
    "vocab_size": 512,
    "tie_word_embeddings": False,
    "max_position_embeddings": 256,
    "rope_theta": 1e6,
    "rms_norm_eps": 1e-6,
}


class Unread:
    """Stands for bandwidth.Reader where the bandwidth does not matter, and compiles nothing."""

    def __init__(self, device):
        self.result = bandwidth.Bandwidth("kernel", 1, [1.0])

    def measure(self):
        pass


def run(capsys, *arguments):
    code = bench.main([*map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def refuse(capsys, *arguments, words):
    code, out, err = run(capsys, *arguments)
    assert code == bench.BAD_INPUT and out == ""
    assert err.startswith("onebuf: error: ") and err.count("\n") == 1
    for word in words:
        assert word in err


def calls(log):
    """What the stand-in for llama-cpp-python noted."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
