"""The tensors that a checkpoint of Qwen3-MoE or of Qwen3.5's mixture has as GGUF, and their values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ..checkpoints.checkpoint import Checkpoint
from ..errors import UnsupportedError
from ..graph.formats import BLOCKS

__all__ = ["Part", "Target", "shape_of", "stored", "targets", "values", "weight_of"]

BLOCK = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate": "ffn_gate_inp",
}
ARCHITECTURES = {"qwen3_moe": "qwen3moe", "qwen3_5_moe_text": "qwen35moe"}  # as llama.cpp calls them
SHARED = {
    "shared_expert.gate_proj": "ffn_gate_shexp",
    "shared_expert.up_proj": "ffn_up_shexp",
    "shared_expert.down_proj": "ffn_down_shexp",
}
EXPERTS = {"gate_proj": "ffn_gate_exps", "up_proj": "ffn_up_exps", "down_proj": "ffn_down_exps"}
KINDS = {"F32": (1, 4), "BF16": (1, 2), "Q4_0": BLOCKS["Q4_0"]}  # weights and bytes of a block


@dataclass(frozen=True)
class Part:
    """The weight of `module`, or matrix `index` of a stack; of its rows `count` from `first` on, or all. rows, columns:
    the order in which they go into the file; change: what becomes of the numbers."""

    module: str
    index: int | None = None
    first: int = 0
    count: int | None = None
    rows: np.ndarray | None = None
    columns: np.ndarray | None = None
    change: Callable[[np.ndarray], np.ndarray] | None = None


@dataclass(frozen=True)
class Target:
    """A tensor of the GGUF, made of `parts`. `kind` is F32, BF16 or Q4_0."""

    name: str
    shape: tuple[int, ...]
    kind: str
    parts: tuple[Part, ...]

    @property
    def nbytes(self) -> int:
        weights, nbytes = KINDS[self.kind]
        return math.prod(self.shape) // weights * nbytes


def targets(checkpoint: Checkpoint) -> Iterator[Target]:
    """The file's tensors, in its order. UnsupportedError for another family."""
    config = checkpoint.config
    if config.get("model_type") not in ARCHITECTURES:
        raise UnsupportedError(
            f"{checkpoint.source}: model_type {config.get('model_type')!r} cannot be written as GGUF for llama.cpp, "
            f"only {' and '.join(ARCHITECTURES)} can; give a .gguf file of the model"
        )
    yield _target(checkpoint, "token_embd", "model.embed_tokens")
    yield _target(checkpoint, "output_norm", "model.norm")
    if not config.get("tie_word_embeddings"):
        yield _target(checkpoint, "output", "lm_head")
    recurrent = config["model_type"] == "qwen3_5_moe_text"
    for i in range(config["num_hidden_layers"]):
        layer, block = f"model.layers.{i}", f"blk.{i}"
        names = BLOCK | ({"post_attention_layernorm": "post_attention_norm"} if recurrent else {})
        for module, name in names.items():
            if f"{layer}.self_attn.q_norm.weight" in checkpoint.tensors or not module.startswith("self_attn."):
                yield _target(checkpoint, f"{block}.{name}", f"{layer}.{module}", exact=module == "mlp.gate")
        for module, name in EXPERTS.items():
            yield _experts(checkpoint, f"{block}.{name}", f"{layer}.mlp", module)
        if recurrent:
            for module, name in SHARED.items():
                yield _target(checkpoint, f"{block}.{name}", f"{layer}.mlp.{module}")
            part = Part(f"{layer}.mlp.shared_expert_gate")
            yield Target(f"{block}.ffn_gate_inp_shexp.weight", (config["hidden_size"],), "F32", (part,))
        if f"{layer}.linear_attn.A_log" in checkpoint.tensors:
            yield from _delta(checkpoint, block, f"{layer}.linear_attn")


def _delta(checkpoint: Checkpoint, block: str, layer: str) -> Iterator[Target]:
    """A layer with the gated delta rule: value heads take turns among the key heads, as llama.cpp has them."""
    c = checkpoint.config
    keys, heads = c["linear_num_key_heads"], c["linear_num_value_heads"]
    first = 2 * keys * c["linear_key_head_dim"]

    def turns(dim: int) -> np.ndarray:
        return np.arange(heads * dim).reshape(keys, -1, dim).swapaxes(0, 1).reshape(-1)

    one, all_values = turns(1), turns(c["linear_value_head_dim"])
    channels = np.concatenate([np.arange(first), first + all_values])
    for module, name, rows in (
        ("in_proj_qkv", "attn_qkv", channels),
        ("in_proj_z", "attn_gate", all_values),
        ("in_proj_b", "ssm_beta", one),
        ("in_proj_a", "ssm_alpha", one),
    ):
        shape, kind = shape_of(checkpoint, f"{layer}.{module}"), _kind(checkpoint, f"{layer}.{module}")
        yield Target(f"{block}.{name}.weight", shape, kind, (Part(f"{layer}.{module}", rows=rows),))
    out = f"{layer}.out_proj"
    part = Part(out, columns=all_values)
    yield Target(f"{block}.ssm_out.weight", shape_of(checkpoint, out), _kind(checkpoint, out), (part,))
    yield _target(checkpoint, f"{block}.ssm_norm", f"{layer}.norm")
    taps = checkpoint.tensor(f"{layer}.conv1d.weight").shape
    part = Part(f"{layer}.conv1d", rows=channels, change=lambda x: x.reshape(len(x), -1))
    yield Target(f"{block}.ssm_conv1d.weight", (taps[0], math.prod(taps[1:])), "F32", (part,))
    yield Target(f"{block}.ssm_dt.bias", (heads,), "F32", (Part(f"{layer}.dt_bias", rows=one),))
    yield Target(f"{block}.ssm_a", (heads,), "F32", (Part(f"{layer}.A_log", rows=one, change=lambda x: -np.exp(x)),))


def _target(checkpoint: Checkpoint, name: str, module: str, exact: bool = False) -> Target:
    shape = shape_of(checkpoint, module)
    kind = "F32" if exact or len(shape) == 1 else _kind(checkpoint, module)
    adds = _adds_one(checkpoint) and module.endswith("norm") and not module.endswith("linear_attn.norm")
    return Target(f"{name}.weight", shape, kind, (Part(module, change=(lambda x: x + 1) if adds else None),))


def _adds_one(checkpoint: Checkpoint) -> bool:
    """Whether norms add 1 to their weight, which llama.cpp's files contain, and MLX's."""
    taps = (info.shape for name, info in checkpoint.tensors.items() if name.endswith("conv1d.weight"))
    return next((tuple(shape[-1:]) != (1,) for shape in taps), False)


def _kind(checkpoint: Checkpoint, module: str) -> str:
    """The kind that has about as many bits as the matrix has: bf16 stays what it is."""
    return "BF16" if checkpoint.tensor(weight_of(checkpoint, module)).dtype == "BF16" else "Q4_0"


def _experts(checkpoint: Checkpoint, name: str, mlp: str, module: str) -> Target:
    count, stack = checkpoint.config["num_experts"], f"{mlp}.switch_mlp.{module}"
    if f"{stack}.weight" in checkpoint.tensors:
        parts = tuple(Part(stack, e) for e in range(count))
        return Target(f"{name}.weight", shape_of(checkpoint, stack), _kind(checkpoint, stack), parts)
    pairs, down = f"{mlp}.experts.gate_up_proj", f"{mlp}.experts.down_proj"  # as transformers keeps them
    if pairs in checkpoint.tensors:
        stack = down if module == "down_proj" else pairs
        _, rows, inputs = shape_of(checkpoint, stack)
        rows //= 1 if stack == down else 2
        first = rows if module == "up_proj" else 0
        parts = tuple(Part(stack, e, first, rows) for e in range(count))
        return Target(f"{name}.weight", (count, rows, inputs), _kind(checkpoint, stack), parts)
    modules = tuple(f"{mlp}.experts.{e}.{module}" for e in range(count))
    shape = (count, *shape_of(checkpoint, modules[0]))
    return Target(f"{name}.weight", shape, _kind(checkpoint, modules[0]), tuple(map(Part, modules)))


def weight_of(checkpoint: Checkpoint, module: str) -> str:
    """The name of a module's weight; transformers' stacks of experts are weights themselves."""
    return module if module in checkpoint.tensors else f"{module}.weight"


def shape_of(checkpoint: Checkpoint, module: str) -> tuple[int, ...]:
    """The shape of a module's weight, in elements."""
    scheme, shape = checkpoint.quantization(module), checkpoint.tensor(weight_of(checkpoint, module)).shape
    return shape if scheme is None else (*shape[:-1], shape[-1] * 32 // scheme.bits)


def values(
    checkpoint: Checkpoint, module: str, index: int | None = None, rows: slice | np.ndarray = slice(None)
) -> np.ndarray:
    """`rows` of the weight of a module, or of matrix `index` of a stack, as float32, dequantised from MLX's affine
    format where it is stored in that."""

    def part(name: str) -> np.ndarray:
        array = checkpoint.view(name) if index is None else checkpoint.view(name)[index]
        return array[rows]

    name = weight_of(checkpoint, module)
    scheme, weight = checkpoint.quantization(module), part(name)
    if scheme is None:
        return _floats(weight, checkpoint.tensors[name].dtype)
    if scheme.mode != "affine":
        raise UnsupportedError(
            f"{checkpoint.source}: {module} is {scheme.mode}; only affine quantisation can be written as GGUF"
        )
    flags = np.unpackbits(np.ascontiguousarray(weight).view(np.uint8), axis=-1, bitorder="little")
    q = flags.reshape(*weight.shape[:-1], -1, scheme.bits) @ (1 << np.arange(scheme.bits, dtype=np.uint16))
    scale, bias = (
        np.repeat(
            _floats(part(f"{module}.{name}"), checkpoint.tensors[f"{module}.{name}"].dtype), scheme.group_size, -1
        )
        for name in ("scales", "biases")
    )
    return q.astype(np.float32) * scale + bias


def stored(checkpoint: Checkpoint, module: str, index: int | None, rows: slice | np.ndarray) -> np.ndarray:
    """`rows` of a matrix as its bytes are."""
    array = checkpoint.view(weight_of(checkpoint, module))
    return (array if index is None else array[index])[rows]


def _floats(array: np.ndarray, dtype: str) -> np.ndarray:
    return (array.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else array.astype(np.float32)
