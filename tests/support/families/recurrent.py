"""Recurrent layers as llama.cpp lays them out, from MLX's names and layouts."""

import numpy as np
from support import gguf_files as files
from support.families.cases import TAPS
from support.families.grid import Grid

from pipeline.checkpoints.text_part import RENAMED, text_name


def rearranged(family, matrices: dict[str, Grid], vectors: dict, config: dict) -> tuple[dict, dict]:
    """(matrices, vectors) with a matrix of queries, keys and values and one of gates; with value heads that take turns,
    where the layout says so; and with vectors as llama.cpp has them."""
    prefixes = RENAMED.get(config["model_type"], {})
    made, sizes = {}, _Sizes(config) if family.layout.norms_plus_one else None
    for module, grid in matrices.items():
        name = text_name(module + ".", prefixes)[:-1]
        if name.endswith("in_proj_qkvz"):
            for part, rows in zip(("qkv", "z"), sizes.joint_rows()):
                made[name.replace("qkvz", part)] = Grid(grid.q[rows], grid.scale[rows])
        else:
            made[name] = grid
    made = {_usual(name): grid for name, grid in made.items()}
    changed = {text_name(name, prefixes): value for name, value in vectors.items()}
    if family.layout.tiled:
        made = {name: _tiled_matrix(name, grid, sizes) for name, grid in made.items()}
        changed = {name: _tiled_vector(name, value, sizes) for name, value in changed.items()}
    return made, {name: _vector(name, value, config, sizes is None) for name, value in changed.items()}


def _usual(name: str) -> str:
    """LFM2's parts of an MLP have other names than those of most."""
    module, _, part = name.rpartition(".")
    return f"{module}.{PARTS[part]}" if part in PARTS and module.endswith("feed_forward") else name


PARTS = {"w1": "gate_proj", "w3": "up_proj", "w2": "down_proj"}


class _Sizes:
    """Of the gated delta rule."""

    def __init__(self, config: dict) -> None:
        self.keys, self.values = config["linear_num_key_heads"], config["linear_num_value_heads"]
        self.key_dim, self.value_dim = config["linear_key_head_dim"], config["linear_value_head_dim"]

    def joint_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """The rows of queries, keys and values, and those of gates, of a matrix that has them key head by key head."""
        own = self.values // self.keys * self.value_dim
        ends = np.cumsum([0, self.key_dim, self.key_dim, own, own])
        rows = np.arange(self.keys * ends[-1]).reshape(self.keys, -1)
        q, k, v, z = (rows[:, a:b].reshape(-1) for a, b in zip(ends, ends[1:]))
        return np.concatenate([q, k, v]), z

    def turns(self, dim: int) -> np.ndarray:
        """Where the numbers of value heads lie that take turns among the key heads."""
        heads = np.arange(self.values * dim).reshape(self.keys, -1, dim)
        return heads.swapaxes(0, 1).reshape(-1)

    @property
    def channels(self) -> np.ndarray:
        first = 2 * self.keys * self.key_dim
        return np.concatenate([np.arange(first), first + self.turns(self.value_dim)])


def _tiled_matrix(name: str, grid: Grid, sizes: _Sizes) -> Grid:
    rows = {"in_proj_qkv": sizes.channels, "in_proj_z": sizes.turns(sizes.value_dim)}
    rows |= dict.fromkeys(("in_proj_a", "in_proj_b"), sizes.turns(1))
    part = name.rpartition(".")[2]
    if part in rows:
        return Grid(grid.q[rows[part]], grid.scale[rows[part]])
    if name.endswith("linear_attn.out_proj"):
        group = grid.q.shape[-1] // grid.scale.shape[-1]
        assert sizes.value_dim % group == 0
        return Grid(grid.q[:, sizes.turns(sizes.value_dim)], grid.scale[:, sizes.turns(sizes.value_dim // group)])
    return grid


def _tiled_vector(name: str, value: np.ndarray, sizes: _Sizes) -> np.ndarray:
    if name.endswith("conv1d.weight"):
        return value[sizes.channels]
    return value[sizes.turns(1)] if name.endswith(("A_log", "dt_bias")) else value


def _vector(name: str, value: np.ndarray, config: dict, mamba: bool) -> np.ndarray:
    if name.endswith(TAPS):
        return np.ascontiguousarray(value.reshape(len(value), -1))
    if name.endswith("A_log"):
        value = -np.exp(value)
    if mamba and name.endswith(("A_log", ".D")):
        return value[:, None]
    if mamba and name.endswith(("mixer.norm.weight", "mamba.norm.weight")):
        return value.reshape(config.get("n_groups", config.get("mamba_n_groups")), -1)
    return value


def metadata(architecture: str, config: dict) -> dict:
    """The keys of recurrent layers."""
    if architecture in ("qwen3next", "qwen35", "qwen35moe"):
        kinds = [kind == "linear_attention" for kind in config["layer_types"]]
        found = {
            "ssm.inner_size": config["linear_num_value_heads"] * config["linear_value_head_dim"],
            "full_attention_interval": 4,
            "attention.recurrent_layers": files.array(files.BOOL, kinds),
        }
        pairs = int(config["head_dim"] * config["rope_parameters"]["partial_rotary_factor"]) // 2
        sections = files.array(files.I32, [(pairs + 2) // 3, (pairs + 1) // 3, pairs // 3, 0])
        return found | ({} if architecture == "qwen3next" else {"rope.dimension_sections": sections})
    kinds = config.get("layers_block_type") or config.get("layer_types") or []
    heads = [config["num_key_value_heads"] * (kind in ("full_attention", "attention")) for kind in kinds]
    counts = {"attention.head_count_kv": files.array(files.U32, heads)}
    if architecture.startswith("lfm2"):
        length, multiple = config["intermediate_size"], config.get("block_multiple_of", 1)
        if config.get("block_auto_adjust_ff_dim"):
            length = -(-int(2 * length / 3) // multiple) * multiple
        keys = {"shortconv.l_cache": config["conv_L_cache"], "feed_forward_length": length}
        return counts | keys | ({"expert_gating_func": 2} if architecture == "lfm2moe" else {})
    if architecture == "granitehybrid":
        inner, turns = config["mamba_expand"] * config["hidden_size"], config["position_embedding_type"] == "rope"
        return counts | {"ssm.inner_size": inner, "rope.scaling.finetuned": turns}
    if architecture.startswith("nemotron"):
        of_kind = {"moe": config["moe_intermediate_size"], "mlp": config["intermediate_size"]}
        return counts | {
            "ssm.inner_size": config["mamba_num_heads"] * config["mamba_head_dim"],
            "block_count": len(kinds),
            "feed_forward_length": files.array(files.U32, [of_kind.get(kind, 0) for kind in kinds]),
            "expert_shared_count": 1,
            "attention.layer_norm_epsilon": config["layer_norm_epsilon"],
        }
    return {}
