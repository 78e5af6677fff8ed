"""The same weights as MLX and llama.cpp store them: experts in one stack, parts of a matrix apart, matrices
quantised."""

import json
import re

import numpy as np
from support.families.cases import ALL, TAPS
from support.families.files import is_matrix, matrix, stored, values, write_safetensors
from support.families.grid import BLOCK, Grid

from pipeline.converting.configuration import converted_config
from pipeline.converting.families import FAMILIES, Family

ONE_BY_ONE = re.compile(r"(.*)\.experts\.(\d+)\.(\w+)\.weight")
PARTS = {"w1": "gate_proj", "w3": "up_proj", "w2": "down_proj"}
UNGATED = {"up_proj": "fc1", "down_proj": "fc2"}  # of Nemotron-H
ROUTERS = (".gate", ".router", "router.layer", "router.proj", "shared_expert_gate")


def modules(name: str, golden: dict, split=lambda module, grid: None) -> tuple[dict[str, Grid], dict[str, np.ndarray]]:
    """(matrices by module [..., outputs, inputs], all other tensors by name), with MLX's names. split: what a format
    makes of a matrix otherwise than `_fused` does."""
    case, matrices, vectors, stacks = ALL[name], {}, {}, {}
    for tensor, shape in golden["tensors"].items():
        found = ONE_BY_ONE.fullmatch(tensor)
        if not is_matrix(tensor, shape):
            array = values(case, tensor, shape)
            vectors |= _recurrent(tensor, array, case.zero_centred) if case.recurrent else _apart(tensor, array)
        elif case.transposed(tensor):
            matrices |= _fused(tensor, matrix(case, tensor, (*shape[:-2], shape[-1], shape[-2])))
        elif found:
            parts = UNGATED if case.model_type == "nemotron_h" else PARTS
            module = f"{found[1]}.switch_mlp.{parts.get(found[3], found[3])}"
            stacks.setdefault(module, {})[int(found[2])] = matrix(case, tensor, shape)
        else:
            whole = matrix(case, tensor, shape)
            matrices |= split(tensor.removesuffix(".weight"), whole) or _fused(_renamed(tensor, case), whole)
    for module, parts in stacks.items():
        grids = [parts[i] for i in range(len(parts))]
        matrices[module] = Grid(np.stack([grid.q for grid in grids]), np.stack([grid.scale for grid in grids]))
    return matrices, vectors


def _renamed(tensor: str, case) -> str:
    """mlx-lm calls the parts of LFM2-MoE's dense MLPs as those of its experts."""
    *front, part, end = tensor.split(".")
    return ".".join((*front, PARTS.get(part, part), end)) if case.model_type == "lfm2_moe" else tensor


def rows(grid: Grid, rows: slice) -> Grid:
    return Grid(grid.q[..., rows, :], grid.scale[..., rows, :])


def _fused(tensor: str, grid: Grid) -> dict[str, Grid]:
    """Stacks of gate and up in one, taken apart: rows that alternate in gpt-oss, halves elsewhere."""
    module, half = tensor.removesuffix(".weight"), grid.q.shape[-2] // 2
    if module.endswith("block_sparse_moe.input_linear"):
        stack = module.replace("input_linear", "switch_mlp")
        return {f"{stack}.gate_proj": rows(grid, slice(half)), f"{stack}.up_proj": rows(grid, slice(half, None))}
    if module.endswith("block_sparse_moe.output_linear"):
        return {module.replace("output_linear", "switch_mlp.down_proj"): grid}
    if module.endswith("mlp.experts.gate_up_proj"):
        return {module.replace("gate_up", part): rows(grid, slice(i, None, 2)) for i, part in enumerate(("gate", "up"))}
    if module.endswith(".experts.gate_up_proj"):
        stack = module.replace("experts.gate_up_proj", "experts.switch_glu")
        return {f"{stack}.gate_proj": rows(grid, slice(half)), f"{stack}.up_proj": rows(grid, slice(half, None))}
    if module.endswith(".experts.down_proj") and "mlp" not in module:
        return {module.replace("down_proj", "switch_glu.down_proj"): grid}
    return {module: grid}


def _recurrent(tensor: str, array: np.ndarray, centred: bool) -> dict[str, np.ndarray]:
    """mlx-lm turns the taps of a convolution, and adds the 1 to the weights of norms that add it."""
    if tensor.endswith(TAPS):
        return {tensor: np.ascontiguousarray(array.swapaxes(1, 2))}
    shifted = centred and tensor.endswith("norm.weight") and "linear_attn" not in tensor
    return {tensor: array + 1 if shifted else array}


def _apart(tensor: str, array: np.ndarray) -> dict[str, np.ndarray]:
    """gpt-oss's biases of the experts."""
    if tensor.endswith("experts.gate_up_proj_bias"):
        return {
            tensor.replace("gate_up_proj_bias", f"{part}_proj.bias"): np.ascontiguousarray(array[:, i::2])
            for i, part in enumerate(("gate", "up"))
        }
    return {tensor.replace("down_proj_bias", "down_proj.bias"): array}


def latent(module: str, grid: Grid, config: dict) -> dict[str, Grid]:
    """kv_b_proj as two stacks, one matrix a head: keys, transposed, and values."""
    heads, nope, rank = config["num_attention_heads"], config["qk_nope_head_dim"], config["kv_lora_rank"]
    q, scale = grid.q.reshape(heads, -1, rank), grid.scale.reshape(heads, -1, rank // BLOCK)
    assert (scale == scale[0, 0, 0]).all()
    same = np.full((heads, rank, -(-nope // BLOCK)), scale[0, 0, 0])
    return {
        module.replace("kv_b_proj", "embed_q"): Grid(np.ascontiguousarray(q[:, :nope].swapaxes(1, 2)), same),
        module.replace("kv_b_proj", "unembed_out"): Grid(q[:, nope:], scale[:, nope:]),
    }


# MLX


def write_mlx(folder, name: str, golden: dict, mixed: dict | None = None) -> None:
    """4 bits in groups of 32, routers 8, or not quantised where mlx-lm leaves them; experts in mxfp4 where the family
    has them so. mixed: other entries of the table for modules whose names end so."""
    config, layout = golden["config"], FAMILIES.get(ALL[name].model_type, Family())
    matrices, vectors = modules(
        name,
        golden,
        lambda module, grid: latent(module, grid, config) if layout.latent and module.endswith("kv_b_proj") else None,
    )
    table, tensors = {"group_size": BLOCK, "bits": 4, "mode": "affine"}, {}
    for module, grid in matrices.items():
        if layout.whole and re.search(layout.whole, module):
            tensors[f"{module}.weight"] = stored(grid.values, "BF16")
            continue
        if ALL[name].mxfp4 and ".experts." in module:
            table[module] = {"group_size": BLOCK, "bits": 4, "mode": "mxfp4"}
            tensors[f"{module}.weight"] = "U32", _packed(_e2m1(grid.q), 4)
            tensors[f"{module}.scales"] = "U8", (np.log2(grid.scale).astype(np.int32) + 128).astype(np.uint8)
            continue
        own = next((entry for end, entry in (mixed or {}).items() if module.endswith(end)), None)
        bits = 8 if module.endswith(ROUTERS) else 4 if own is None else own["bits"]
        if bits == 8 or own is not None:
            table[module] = {"group_size": BLOCK, "bits": bits} | ({} if module.endswith(ROUTERS) else own or {})
        zero = 2 ** (bits - 1)
        tensors[f"{module}.weight"] = "U32", _packed(grid.q + np.int16(zero), bits)
        tensors[f"{module}.scales"] = stored(grid.scale, "BF16")
        tensors[f"{module}.biases"] = stored(-zero * grid.scale, "BF16")
    tensors |= {tensor: stored(array, "BF16") for tensor, array in vectors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(converted_config(config, table)))
    write_safetensors(folder / "model.safetensors", tensors)


def write_blocks(folder, name: str, golden: dict) -> None:
    """gpt-oss as published: experts in MXFP4's blocks, all else in bfloat16."""
    tensors = {}
    for tensor, shape in golden["tensors"].items():
        if not (is_matrix(tensor, shape) and ALL[name].transposed(tensor)):
            tensors[tensor] = stored(values(ALL[name], tensor, shape), "BF16")
            continue
        grid = matrix(ALL[name], tensor, (*shape[:-2], shape[-1], shape[-2]))
        codes = _e2m1(grid.q)
        tensors[f"{tensor}_blocks"] = "U8", (codes[..., ::2] | codes[..., 1::2] << 4).reshape(*grid.scale.shape, 16)
        tensors[f"{tensor}_scales"] = "U8", (np.log2(grid.scale).astype(np.int32) + 128).astype(np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(
        json.dumps(golden["config"] | {"quantization_config": {"quant_method": "mxfp4"}})
    )
    write_safetensors(folder / "model.safetensors", tensors)


def _packed(q: np.ndarray, bits: int) -> np.ndarray:
    if bits == 6:  # sixteen of them fill three words
        flags = (q.astype(np.uint8)[..., None] >> np.arange(6, dtype=np.uint8)) & 1
        raw = np.packbits(flags.reshape(*q.shape[:-1], -1), axis=-1, bitorder="little")
        return raw.view("<u4")
    per = 32 // bits
    words = q.astype(np.uint32).reshape(*q.shape[:-1], -1, per)
    return (words << (np.arange(per, dtype=np.uint32) * np.uint32(bits))).sum(-1, dtype=np.uint32)


def _e2m1(q: np.ndarray) -> np.ndarray:
    """The codes of q / 2: 0, ½, 1, 1½, 2, 3, and the sign above them."""
    codes = np.zeros(7, np.uint8)
    codes[[0, 1, 2, 3, 4, 6]] = range(6)
    return codes[np.abs(q)] | np.where(q < 0, 8, 0).astype(np.uint8)
