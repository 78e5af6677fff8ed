"""Shared by the kernel tests: weights in every stored format, one-step pipelines, bounds on errors."""

import dataclasses

import numpy as np
import pytest

import pipeline as p
from pipeline.graph.chain import Chain
from pipeline.graph.formats import BLOCKS, FLOAT_MODES, dtype_of
from pipeline.graph.tensors import Storage
from pipeline.graph.weights import Blocks, Quantized, as_weight
from support import reference as ref
from support.axes import axis
from support.coded_formats import HALVES
from support.stored_formats import block_matrix, float_matrix

# Half the distance from 1 to the next f32: what one rounding costs, relative to the value.
ROUNDING = 2.0**-24

# A dot product in f32, as a share of Σ |x · w|. A lane adds up one term in 16, so 513 at 8,193 columns;
# their roundings have random signs and shrink against the sum. A dropped or doubled term of n costs 1 / n.
DOT = 8 * ROUNDING

# Sums of squares have no cancellation, and the square root halves what is left; then three products.
NORM = 16 * ROUNDING

# exp, log, sin, cos and division: 2 to 4 units in the last place each, a few of them in a row.
ELEMENTARY = 16 * ROUNDING

# Below f32's smallest normal number precision is lost step by step, and some devices flush to zero.
TINY = 2.0**-126

PLAIN_FORMATS = ("f32", "f16", "bf16")
AFFINE_FORMATS = tuple(f"q{bits}_{scales}" for bits in (4, 8) for scales in PLAIN_FORMATS)
GROUPS = (32, 64, 128)
FLOAT_FORMATS = (*((mode, group) for mode, (_, group) in FLOAT_MODES.items()), ("fp8", 128), ("fp4", 16))
BLOCK_FORMATS = (("mxfp4", 32), *((f"gguf_{kind.lower()}", columns) for kind, (columns, _) in BLOCKS.items()))
# Those that native kernels read; the others are decoded by one function for all, and multiplied by one code.
NATIVE_BLOCKS = tuple(
    block
    for block in BLOCK_FORMATS
    if block[0] in ("gguf_iq3_s", "gguf_iq2_s") or block[0] not in {f"gguf_{kind.lower()}" for kind in HALVES}
)
DAILY_BLOCKS = (*NATIVE_BLOCKS, ("gguf_iq1_m", 256), ("gguf_q1_0", 128), ("gguf_nvfp4", 64))
# Formats of one group size each, or where no combination with groups is special.
OTHER_FORMATS = tuple(
    (f"q{bits}_{scales}", group) for bits in (2, 3, 5, 6) for scales, group in zip(PLAIN_FORMATS, (128, 32, 64))
)
OTHER_FORMATS += (*BLOCK_FORMATS, *FLOAT_FORMATS[1:])
# Every format, and the quantised ones with their groups.
FORMATS_AND_GROUPS = tuple((name, 0) for name in PLAIN_FORMATS)
FORMATS_AND_GROUPS += tuple((f, g) for f in AFFINE_FORMATS for g in GROUPS) + OTHER_FORMATS

# One of each kind of format, for the checker: plain, affine, affine whose integers cross words, blocks of 32 and
# of 256, and those whose kernels share their code.
ONE_OF_EACH_KIND = (
    ("f32", 0),
    ("bf16", 0),
    ("q4_bf16", 64),
    ("q6_f16", 32),
    ("q5_f16", 32),
    ("gguf_q5_0", 32),
    ("gguf_q4_k", 256),
    ("gguf_iq4_xs", 256),
    ("mxfp4", 32),
)
# Every number of bits with every group size; scales' dtypes take turns. All formats: test_linear.py and
# test_formats.py.
FORMATS = axis(
    FORMATS_AND_GROUPS,
    ONE_OF_EACH_KIND,
    daily=(
        *FORMATS_AND_GROUPS[:3],
        *(("q4_f32", 128), ("q4_f16", 32), ("q4_bf16", 64), ("q8_f32", 32), ("q8_f16", 64), ("q8_bf16", 128)),
        *(("q2_f16", 32), ("q3_f32", 128), ("q3_bf16", 64), ("q5_f16", 32), ("q6_f16", 32)),
        *(*DAILY_BLOCKS, *FLOAT_FORMATS[1:]),
    ),
)

DIMS = (1, 31, 33, 257, 8193)
ROWS = (1, 3, 5, 9)


def stored(values, dtype):
    """(Storage, float64 values) of `values` rounded to f32, f16 or bf16."""
    if dtype == "bf16":
        bits = ref.bf16_bits(values)
        return Storage.of(bits, "bf16"), ref.from_bf16(bits).astype(np.float64)
    rounded = np.asarray(values).astype({"f32": np.float32, "f16": np.float16}[dtype])
    return Storage.of(rounded), rounded.astype(np.float64)


def matrix(rng, shape, format, group=64):
    """(what a step takes as weight, its float64 values): random, of `shape` [..., outputs, inputs]."""
    if format.startswith("gguf_"):
        return block_matrix(rng, shape, next(kind for kind in BLOCKS if f"gguf_{kind.lower()}" == format))
    if format in dict(FLOAT_FORMATS):
        return float_matrix(rng, shape, format)
    if not format.startswith("q"):
        return stored(rng.normal(size=shape), format)
    bits, scales = int(format[1]), format[3:]
    groups = (*shape[:-1], shape[-1] // group)
    words = rng.integers(0, 2**32, (*shape[:-1], shape[-1] * bits // 32), np.uint32)
    scale, scale_values = stored(rng.normal(size=groups) / 2**bits, scales)
    bias, bias_values = stored(rng.normal(size=groups), scales)
    return Quantized(words, scale, bias, bits, group), ref.dequantize(words, scale_values, bias_values, bits, group)


def activations(rng, *shape):
    return rng.normal(size=shape).astype(np.float32)


def has_native(device, kernel, weight):
    """Whether the device runs code written by hand for a kernel such as "linear" with weights of this format."""
    return device.kernel(f"{kernel}_{as_weight(weight, kernel).format}").native


def activation_steps(device, kernel, weight):
    """Steps from 0 to a group's largest activation where a kernel makes them integers of 16 bits; 0: it does not."""
    if not isinstance(weight, (Blocks, Quantized)):
        return 0
    if has_native(device, kernel, weight):
        return 32767
    return 32512 if on_tensor_cores(device, weight) else 0


def on_tensor_cores(device, weight):
    """Whether tensor cores make products with this matrix: see shaders/weights/tensor.h."""
    if device.name.partition(":")[0] != "cuda" or not isinstance(weight, Quantized) or weight.group_size != 64:
        return False
    words = weight.weight.shape[-1]  # of 32 bits
    return weight.bits in (4, 8) and weight.biases is not None and words % 32 == 0 and words >= 96


def stored_activations(device, x, weight, values, kernel="linear"):
    """What it may cost that kernels multiply quantised weights by 16-bit activations: half a step of a
    group's largest element, times each weight's size. 0 where they do not, or weights are floats."""
    count = activation_steps(device, kernel, weight)
    if count == 0:
        return 0
    group = 32 if isinstance(weight, Blocks) else weight.group_size
    steps = np.abs(x.astype(np.float64)).reshape(*x.shape[:-1], -1, group).max(-1) / count
    return np.repeat(steps, group, -1) / 2 @ np.abs(values).swapaxes(-1, -2)


def with_one_thread(device):
    """The same device again, of one thread."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OB_NATIVE", str(int(device.kernel("attention_f32").native)))
        return p.open_device(device.name, threads=1)


def chain(device, rows, steps, **inputs):
    """The chain of `steps(pipe, **tensors)`, which gives its outputs; inputs have the shapes of the arrays."""
    pipe = p.Pipeline(device, rows=rows)
    tensors = {name: pipe.input(name, np.shape(value), dtype_of(value)) for name, value in inputs.items()}
    return pipe.build(steps(pipe, **tensors))


def run(device, rows, steps, **inputs):
    """Builds such a chain and runs it once."""
    return chain(device, rows, steps, **inputs).run(**inputs)


def alone(device, steps, row, **inputs):
    """The outputs for one row of the inputs, in a pipeline of one row."""
    return run(device, 1, steps, **{name: value[row : row + 1] for name, value in inputs.items()})


def some_rows(device, rows):
    """All of them; on the checker, which is slow, the first, one in the middle and the last."""
    return sorted({0, rows // 2, rows - 1}) if device.name == "checker" else range(rows)


def assert_rows_alone(device, steps, **inputs):
    """Each row of a batch is bit for bit what that row gives alone."""
    rows = len(next(iter(inputs.values())))
    batch = run(device, rows, steps, **inputs)
    for row in some_rows(device, rows):
        single = alone(device, steps, row, **inputs)
        for a, b in zip(as_tuple(batch), as_tuple(single)):
            assert a[row].tobytes() == b[0].tobytes(), f"row {row} of {rows} differs from the row alone"


def as_tuple(outputs):
    return outputs if isinstance(outputs, tuple) else (outputs,)


def assert_close(actual, expected, bound):
    """|actual - expected| ≤ bound, element by element; a NaN is never close."""
    assert actual.shape == expected.shape
    error, bound = np.abs(actual.astype(np.float64) - expected), np.broadcast_to(bound, expected.shape)
    if not (error <= bound).all():
        worst = np.unravel_index(np.argmax(np.where(np.isnan(error), np.inf, error - bound)), error.shape)
        raise AssertionError(
            f"at {worst}: {actual[worst]} instead of {expected[worst]}, "
            f"off by {error[worst]:.3g} where {bound[worst]:.3g} is allowed"
        )


GUARD = 4096  # bytes before and behind each value


class GuardedChain(Chain):
    """A chain whose every value lies in a buffer of its own, between bytes of 255: NaN as floats, no
    expert or token as ids. Whoever reads them spoils its result, and check_guards finds who writes them."""

    def __init__(self, plan, device):
        self._guarded = {}
        super().__init__(plan, device)
        self._inputs = {name: self._view(tensor) for name, tensor in plan.inputs.items()}

    def _memory(self, tensor, copy=0):
        key = tensor.storage or tensor
        if key not in self._guarded:
            buffer = self.device.core.buffer(tensor.nbytes + 2 * GUARD)
            content = np.frombuffer(buffer, np.uint8)
            content[:] = 255
            if tensor.storage is not None:
                content[GUARD : GUARD + tensor.nbytes] = tensor.storage.read(self.device).reshape(-1).view(np.uint8)
            self._guarded[key] = tensor, buffer
        return self._guarded[key][1], GUARD

    def check_guards(self):
        for tensor, buffer in self._guarded.values():
            content = np.frombuffer(buffer, np.uint8)
            for guard in (content[:GUARD], content[GUARD + tensor.nbytes :]):
                assert (guard == 255).all(), f"something was written outside of {tensor}"


def guarded_chain(device, rows, steps, spare=0, **inputs):
    """Like chain, between guards, every grid `spare` threadgroups too high."""
    pipe = p.Pipeline(device, rows=rows)
    tensors = {name: pipe.input(name, value.shape, dtype_of(value)) for name, value in inputs.items()}
    plan = pipe.plan(steps(pipe, **tensors))
    taller = [
        dataclasses.replace(d, threadgroups=(d.threadgroups[0], d.threadgroups[1] + spare, d.threadgroups[2]))
        for d in plan.dispatches
    ]
    return GuardedChain(dataclasses.replace(plan, dispatches=tuple(taller)), device)


def failing(chain, rows=0, **inputs):
    """What the rows of a guarded chain report after a run, which must leave alone what lies around each value."""
    for name, value in inputs.items():
        chain.view(chain.plan.inputs[name])[:] = value
    chain.commit(rows).wait()
    chain.check_guards()
    return {row: chain.failure(code) for row, code in enumerate(chain.view(chain.plan.status).tolist()) if code}


def guarded_run(device, rows, steps, spare=0, **inputs):
    """Like run, on such a chain."""
    made = guarded_chain(device, rows, steps, spare, **inputs)
    outputs = made.run(**inputs)
    made.check_guards()
    return outputs


def check_product(device, actual, x, weight, values):
    x = x.astype(np.float64)
    bound = dot_bound(weight) * (np.abs(x) @ np.abs(values).T)
    assert_close(actual, x @ values.T, bound + stored_activations(device, x, weight, values))


def dot_bound(weight):
    """q · scale + bias rounds at the size of its terms, which may be larger than the sum."""
    return 4 * DOT if isinstance(weight, (p.Quantized, p.Blocks)) else DOT
