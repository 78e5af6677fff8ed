"""Latent attention against its definition: each head's keys and values expanded from the compressed rows."""

import numpy as np
import pytest
from support import caches
from support import reference as ref
from support.axes import each, pairs
from support.kernels import FORMATS, activations, chain, matrix, stored

import pipeline as p
from pipeline.errors import DTypeError, ShapeError
from pipeline.graph.steps.latent import KeysValues

# Only attention over the rows has native kernels; test_windows.py compares them and the shaders with the oracle.
pytestmark = pytest.mark.one_processor

EPS = 1e-6
# Of a row's length, what its result may be off by: rounding of float32 through three products, and what rows of the
# cache are off by, half a step of each number, which scores of up to 10 carry on into the weights.
ERRORS = {"f32": 2e-5, "f16": 5e-3, "q8": 0.1}


class Case:
    """Random compressed rows of two sequences, read and written as a prompt's chunks."""

    def __init__(
        self,
        *,
        heads=3,
        nope=16,
        rope=8,
        rank=32,
        v_dim=16,
        format="f32",
        group=0,
        split=False,
        cache="f32",
        interleaved=True,
        dtype="f32",
        rows=19,
        seed=0,
    ):
        rng = np.random.default_rng(seed)
        self.heads, self.nope, self.rope, self.rank, self.v_dim, self.cache = heads, nope, rope, rank, v_dim, cache
        self.rows, self.split, self.interleaved, self.context = rows, split, interleaved, 23
        self.inv_freq = rng.random(rope // 2).astype(np.float32)
        self.norm, self.norm_values = stored(rng.normal(size=rank), dtype)
        self.scale = (nope + rope) ** -0.5 * 1.3
        if split:
            (keys, key_values), (values, value_values) = (
                matrix(rng, shape, format, group) for shape in ((heads * rank, nope), (heads * v_dim, rank))
            )
            self.kv_b = KeysValues(keys, values)
            self.w_keys = key_values.reshape(heads, rank, nope).swapaxes(1, 2)
            self.w_values = value_values.reshape(heads, v_dim, rank)
        else:
            self.kv_b, values = matrix(rng, (heads * (nope + v_dim), rank), format, group)
            self.w_keys, self.w_values = np.split(values.reshape(heads, nope + v_dim, rank), [nope], axis=1)
        self.q, self.kv = activations(rng, rows, heads * (nope + rope)), activations(rng, rows, rank + rope)
        self.slots = np.array([1] * (rows - rows // 3) + [0] * (rows // 3), np.uint32)
        self.positions = np.concatenate([np.arange(rows - rows // 3), np.arange(rows // 3)]).astype(np.uint32)

    def steps(self, pipe, q, kv, slots, positions, cache=None):
        kept = caches.states(pipe, cache or self.zeros())
        table = pipe.rope_table(positions, self.inv_freq)
        turned = pipe.latent_to_cache(
            q, kv, self.norm, table, slots, positions, *kept, EPS, heads=self.heads, interleaved=self.interleaved
        )
        return pipe.latent_attention(q, turned, self.kv_b, *kept, slots, positions, self.scale, v_dim=self.v_dim)

    def zeros(self):
        return caches.zeros(2, 1, self.context, [self.rank + self.rope], self.cache)

    @property
    def inputs(self):
        return {name: getattr(self, name) for name in ("q", "kv", "slots", "positions")}

    def expected(self):
        q = self.q.reshape(self.rows, self.heads, -1).astype(np.float64)
        latent = ref.rms_norm(self.kv[:, : self.rank], self.norm_values, EPS)
        turned = ref.rope(self.kv[:, None, self.rank :], self.positions, self.inv_freq, self.interleaved)[:, 0]
        queries = np.concatenate(
            [q[..., : self.nope], ref.rope(q[..., self.nope :], self.positions, self.inv_freq, self.interleaved)], -1
        )
        keys = np.zeros((2, self.heads, self.context, self.nope + self.rope))
        values = np.zeros((2, self.heads, self.context, self.v_dim))
        for row, (slot, position) in enumerate(zip(self.slots, self.positions)):
            keys[slot, :, position, : self.nope] = self.w_keys @ latent[row]
            keys[slot, :, position, self.nope :] = turned[row]
            values[slot, :, position] = self.w_values @ latent[row]
        return ref.attention(queries, keys, values, self.slots, self.positions, self.scale)

    def check(self, device):
        y, wanted = chain(device, self.rows, self.steps, **self.inputs).run(**self.inputs), self.expected()
        error = np.linalg.norm(y - wanted, axis=-1) / np.linalg.norm(wanted, axis=-1)
        assert error.max() < ERRORS[self.cache], error.max()  # NaN is not


@each("format, split", FORMATS, [False, True])
def test_weights_of_every_format(device, format, split):
    format, group = format
    wide = max(group, 128)  # columns that are whole blocks and groups
    Case(format=format, group=group, split=split, rank=wide, nope=wide if split else 12, rows=6, heads=2).check(device)


@pairs(
    "sizes, interleaved, split, cache",
    [
        {},
        {"heads": 1, "nope": 5, "rope": 2, "rank": 16, "v_dim": 3},
        {"heads": 16, "rank": 64, "v_dim": 24},
        {"heads": 5, "nope": 24, "rope": 6, "rank": 40, "v_dim": 7},
    ],
    [False, True],
    [False, True],
    ERRORS,
)
def test_latent_attention_is_attention_over_what_the_rows_expand_to(device, sizes, interleaved, split, cache):
    Case(cache=cache, interleaved=interleaved, split=split, dtype="bf16" if split else "f32", **sizes).check(device)


@pairs("chunk, cache", [1, 3, 8], ERRORS)
def test_a_row_does_not_depend_on_its_company(device, chunk, cache):
    case = Case(cache=cache, format="bf16")
    together = chain(device, case.rows, case.steps, **case.inputs).run(**case.inputs)
    storages = case.zeros()
    given = {name: value[:chunk] for name, value in case.inputs.items()}
    made = chain(device, chunk, lambda pipe, **tensors: case.steps(pipe, **tensors, cache=storages), **given)
    for first in range(0, case.rows - chunk + 1, chunk):
        y = made.run(**{name: value[first : first + chunk] for name, value in case.inputs.items()})
        assert y.tobytes() == together[first : first + chunk].tobytes()


def test_what_is_refused():
    def refused(error, words, change):
        case = Case(rows=2)
        change(case)
        with pytest.raises(error, match=words):
            chain("cpu", 2, case.steps, **case.inputs)

    refused(
        ShapeError,
        "latent_to_cache: q has 70 numbers, which are not 3 heads of more than the 8 that turn",
        lambda case: setattr(case, "q", np.zeros((2, 70), np.float32)),
    )
    refused(
        ShapeError,
        r"latent_to_cache: kv has shape \(2, 41\), expected \(2, 40\)",
        lambda case: setattr(case, "kv", np.zeros((2, 41), np.float32)),
    )
    refused(
        ShapeError,
        r"attention: attention.kv_b has shape \(96, 30\), expected \(96, 32\)|expected",
        lambda case: setattr(case, "kv_b", np.zeros((96, 30), np.float32)),
    )
    pipe = p.Pipeline(rows=1)
    kept = caches.unused(pipe, [(1, 1, 64, 24)], ["bf16"])
    tensors = [pipe.input(name, shape) for name, shape in (("q", (1, 24)), ("kv", (1, 24)), ("table", (1, 2, 4)))]
    with pytest.raises(DTypeError, match="latent_to_cache: the cache is bf16; use one of f16, f32, q8"):
        pipe.latent_to_cache(
            *tensors[:2],
            np.ones(16, np.float32),
            tensors[2],
            *(pipe.input(n, (1,), "u32") for n in "sp"),
            *kept,
            heads=2,
        )
