"""The tensors that a Qwen3-MoE checkpoint has as GGUF, and their values."""

from __future__ import annotations

import math
from collections.abc import Iterator
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
EXPERTS = {"gate_proj": "ffn_gate_exps", "up_proj": "ffn_up_exps", "down_proj": "ffn_down_exps"}
KINDS = {"F32": (1, 4), "BF16": (1, 2), "Q4_0": BLOCKS["Q4_0"]}  # weights and bytes of a block


@dataclass(frozen=True)
class Part:
    """The weight of `module`, or matrix `index` of a stack; of its rows `count` from `first` on, or all."""

    module: str
    index: int | None = None
    first: int = 0
    count: int | None = None


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
    if config.get("model_type") != "qwen3_moe":
        raise UnsupportedError(
            f"{checkpoint.source}: model_type {config.get('model_type')!r} cannot be "
            "written as GGUF for llama.cpp, only qwen3_moe can; give a .gguf file of the model"
        )
    yield _target(checkpoint, "token_embd", "model.embed_tokens")
    yield _target(checkpoint, "output_norm", "model.norm")
    if not config.get("tie_word_embeddings"):
        yield _target(checkpoint, "output", "lm_head")
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        for module, name in BLOCK.items():
            yield _target(checkpoint, f"blk.{i}.{name}", f"{layer}.{module}", exact=module == "mlp.gate")
        for module, name in EXPERTS.items():
            yield _experts(checkpoint, f"blk.{i}.{name}", f"{layer}.mlp", module)


def _target(checkpoint: Checkpoint, name: str, module: str, exact: bool = False) -> Target:
    shape = shape_of(checkpoint, module)
    return Target(name, shape, "F32" if exact or len(shape) == 1 else _kind(checkpoint, module), (Part(module),))


def _kind(checkpoint: Checkpoint, module: str) -> str:
    """The kind that has about as many bits as the matrix has: bf16 stays what it is."""
    return "BF16" if checkpoint.tensor(weight_of(checkpoint, module)).dtype == "BF16" else "Q4_0"


def _experts(checkpoint: Checkpoint, name: str, mlp: str, module: str) -> Target:
    count, stack = checkpoint.config["num_experts"], f"{mlp}.switch_mlp.{module}"
    if f"{stack}.weight" in checkpoint.tensors:
        parts = tuple(Part(stack, e) for e in range(count))
        return Target(name, shape_of(checkpoint, stack), _kind(checkpoint, stack), parts)
    pairs, down = f"{mlp}.experts.gate_up_proj", f"{mlp}.experts.down_proj"  # as transformers keeps them
    if pairs in checkpoint.tensors:
        stack = down if module == "down_proj" else pairs
        _, rows, inputs = shape_of(checkpoint, stack)
        rows //= 1 if stack == down else 2
        first = rows if module == "up_proj" else 0
        parts = tuple(Part(stack, e, first, rows) for e in range(count))
        return Target(name, (count, rows, inputs), _kind(checkpoint, stack), parts)
    modules = tuple(f"{mlp}.experts.{e}.{module}" for e in range(count))
    shape = (count, *shape_of(checkpoint, modules[0]))
    return Target(name, shape, _kind(checkpoint, modules[0]), tuple(map(Part, modules)))


def weight_of(checkpoint: Checkpoint, module: str) -> str:
    """The name of a module's weight; transformers' stacks of experts are weights themselves."""
    return module if module in checkpoint.tensors else f"{module}.weight"


def shape_of(checkpoint: Checkpoint, module: str) -> tuple[int, ...]:
    """The shape of a module's weight, in elements."""
    scheme, shape = checkpoint.quantization(module), checkpoint.tensor(weight_of(checkpoint, module)).shape
    return shape if scheme is None else (*shape[:-1], shape[-1] * 32 // scheme.bits)


def values(checkpoint: Checkpoint, module: str, index: int | None = None, rows: slice = slice(None)) -> np.ndarray:
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


def stored(checkpoint: Checkpoint, module: str, index: int | None, rows: slice) -> np.ndarray:
    """`rows` of a matrix as its bytes are."""
    array = checkpoint.view(weight_of(checkpoint, module))
    return (array if index is None else array[index])[rows]


def _floats(array: np.ndarray, dtype: str) -> np.ndarray:
    return (array.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else array.astype(np.float32)
