"""Rotary positions, and heads_to_cache with what families vary: norms, partial and interleaved rope, values of their
own size, rings, 16 and 8 bits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import caches
from support import reference as ref
from support.axes import each, pairs
from support.kernels import ELEMENTARY, NORM, PLAIN_FORMATS, ROUNDING, activations, assert_close, run, stored

import pipeline as p
from pipeline.errors import BuildError, DTypeError, ShapeError
from pipeline.models.rope import Rope

pytestmark = pytest.mark.one_processor  # no step here has native kernels

CACHES = ("f32", "f16", "q8")
HALF = 2.0**-11  # half the distance from 1 to the next f16
HALF_STEP = 2.0**-25  # half the distance of f16's subnormal numbers
LARGEST_HALF = 65504
EPS = 1e-6


@pytest.mark.parametrize("half", [1, 9, 16, 40, 64])
def test_rope_table(device, half):
    positions = np.array([0, 1, 2, 255, 1023, 40959, 131071], np.uint32)
    inv_freq = (10000.0 ** (-np.arange(half) / half)).astype(np.float32)
    y = run(device, 7, lambda pipe, positions: pipe.rope_table(positions, inv_freq), positions=positions)
    angle = positions[:, None].astype(np.float64) * inv_freq
    # The product position · inv_freq rounds at its own size, and turns by that much more or less.
    bound = ROUNDING * (angle + 8)
    assert_close(y, np.stack([np.cos(angle), np.sin(angle)], 1), bound[:, None, :])


class Case:
    """Random heads of a few rows, what a step makes of them, and what is expected."""

    def __init__(
        self,
        *,
        heads=4,
        kv_heads=2,
        dim=32,
        v_dim=0,
        half=None,
        norm="head",
        dtype="f32",
        cache="f32",
        interleaved=False,
        weight_offset=0.0,
        v_norm=False,
        clip=0.0,
        window=0,
        context=19,
        rows=5,
        scale=1.0,
        positions=None,
        slots=None,
        seed=0,
    ):
        rng = np.random.default_rng(seed)
        self.heads, self.kv_heads, self.dim, self.v_dim, self.rows = heads, kv_heads, dim, v_dim or dim, rows
        self.half, self.norm, self.cache, self.context, self.scale = (
            dim // 2 if half is None else half,
            norm,
            cache,
            context,
            scale,
        )
        self.options = {
            "norm": norm or "head",
            "interleaved": interleaved,
            "weight_offset": weight_offset,
            "v_norm": v_norm,
            "clip": clip,
            "window": window,
        }
        self.inv_freq = (rng.random(self.half) * 2).astype(np.float32)
        sizes = [n * dim if norm == "all" else dim for n in (heads, kv_heads)]
        self.norms = [stored(rng.normal(size=n), dtype) if norm else (None, None) for n in sizes]
        self.q, self.k = activations(rng, rows, heads * dim), activations(rng, rows, kv_heads * dim)
        self.v = activations(rng, rows, kv_heads * self.v_dim)
        self.slots = np.array(range(rows)[::-1] if slots is None else slots, np.uint32)
        self.positions = (
            rng.integers(0, context, rows).astype(np.uint32) if positions is None else np.array(positions, np.uint32)
        )

    def steps(self, pipe, q, k, v, slots, positions):
        self.table = caches.scattered(self.rows, self.context)
        kept = caches.zeros(self.rows, self.kv_heads, self.context, (self.dim, self.v_dim), self.cache, self.table)
        kept = caches.states(pipe, kept)
        table = pipe.rope_table(positions, Rope(self.inv_freq, self.scale)) if self.half else None
        turned = pipe.heads_to_cache(
            q, k, v, self.norms[0][0], self.norms[1][0], table, slots, positions, *kept, EPS, **self.options
        )
        return turned, *kept[:2]

    def run(self, device, rows=0):
        inputs = {name: getattr(self, name) for name in ("q", "k", "v", "slots", "positions")}
        pipe = p.Pipeline(device, rows=self.rows)
        tensors = {
            name: pipe.input(name, value.shape, "u32" if value.dtype == np.uint32 else "f32")
            for name, value in inputs.items()
        }
        q, *kept = pipe.build(self.steps(pipe, **tensors)).run(rows=rows, **inputs)
        return q, *(caches.positions_of(cache, self.table) for cache in kept)

    def turned(self, x, heads, weight):
        x = x.reshape(self.rows, heads, self.dim).astype(np.float64)
        o = self.options
        if self.norm == "all":
            normed = ref.rms_norm(x.reshape(self.rows, -1), weight + o["weight_offset"], EPS).reshape(x.shape)
        else:
            normed = ref.rms_norm(x, weight + o["weight_offset"], EPS) if self.norm else x
        if o["clip"]:
            normed = np.clip(normed, -o["clip"], o["clip"])
        y = ref.rope(normed, self.positions, self.inv_freq, o["interleaved"])
        y[..., : 2 * self.half] *= self.scale
        return y

    def values(self):
        v = self.v.reshape(self.rows, self.kv_heads, self.v_dim).astype(np.float64)
        v = ref.rms_norm(v, None, EPS) if self.options["v_norm"] else v
        return np.clip(v, -self.options["clip"], self.options["clip"]) if self.options["clip"] else v

    def check(self, device, rows=0):
        q, k_cache, v_cache = self.run(device, rows)
        rows, ring = rows or self.rows, k_cache.shape[2]
        error = (NORM + ELEMENTARY + ROUNDING * self.positions[:, None, None]) * 2
        wanted = self.turned(self.q, self.heads, self.norms[0][1])
        bound = np.abs(wanted).max(-1, keepdims=True) * error
        assert_close(q[:rows], wanted[:rows], bound[:rows])
        for cache, wanted in (
            (k_cache, self.turned(self.k, self.kv_heads, self.norms[1][1])),
            (v_cache, self.values()),
        ):
            bound = np.abs(wanted).max(-1, keepdims=True) * error
            if self.cache == "f16":
                bound = bound + np.abs(wanted) * HALF + HALF_STEP
            if self.cache == "q8":
                cache, scales = ref.q8_values(cache, wanted.shape[-1])
            left = np.ones(cache.shape[0::2], bool)  # places that no row owns
            for row in range(rows):
                place = self.positions[row] % ring if self.options["window"] else self.positions[row]
                left[self.slots[row], place] = False
                own = bound[row] + (scales[self.slots[row], :, place] / 2 if self.cache == "q8" else 0)
                assert_close(cache[self.slots[row], :, place], wanted[row], own)
            assert not cache.swapaxes(1, 2)[left].any()


# Slots and positions of five rows, of which three are of one sequence.
PLACES = {"slots": [1, 3, 1, 0, 1], "positions": [36, 0, 2, 2, 3], "context": 37}


@each(
    "dim, heads, dtype, cache", [2, 18, 32, 80, 128], [(1, 1), (3, 3), (4, 2), (7, 1), (12, 4)], PLAIN_FORMATS, CACHES
)
def test_heads_to_cache(device, dim, heads, dtype, cache):
    heads, kv_heads = heads
    Case(heads=heads, kv_heads=kv_heads, dim=dim, dtype=dtype, cache=cache, **PLACES).check(device)


@given(
    dim=st.integers(1, 140),
    kv_heads=st.integers(1, 4),
    group=st.integers(1, 4),
    share=st.floats(0, 1),
    norm=st.sampled_from(["head", "all", None]),
    dtype=st.sampled_from(PLAIN_FORMATS),
    cache=st.sampled_from(CACHES),
    interleaved=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_heads_of_any_size(device, dim, kv_heads, group, share, norm, dtype, cache, interleaved, seed):
    sizes = {"dim": dim, "heads": kv_heads * group, "kv_heads": kv_heads, "half": int(share * (dim // 2))}
    Case(**sizes, norm=norm, dtype=dtype, cache=cache, interleaved=interleaved, seed=seed, **PLACES).check(device)


@pytest.mark.parametrize("used", [1, 3, 4])
def test_fewer_rows_write_fewer_places(device, used):
    Case(**PLACES).check(device, used)


@pairs("norm, dtype, cache", ["head", "all", None], ["f32", "f16", "bf16"], CACHES)
def test_norms(device, norm, dtype, cache):
    Case(norm=norm, dtype=dtype, cache=cache).check(device)
    Case(norm=norm, dtype=dtype, cache=cache, heads=9, kv_heads=3, dim=24, weight_offset=1.0, v_norm=True).check(device)


@each(
    "size, interleaved, cache",
    [(2, 1), (24, 12), (64, 16), (64, 0), (80, 40), (96, 1), (33, 5), (128, 64), (512, 256)],
    [False, True],
    CACHES,
)
def test_which_numbers_turn(device, size, interleaved, cache):
    dim, half = size
    Case(dim=dim, half=half, interleaved=interleaved, cache=cache, scale=1.25).check(device)
    Case(dim=dim, half=half, interleaved=interleaved, cache=cache, norm=None, heads=3, kv_heads=3).check(device)


@each("sizes, cache", [(192, 128), (24, 40), (16, 1), (7, 64)], CACHES)
def test_values_of_another_size(device, sizes, cache):
    dim, v_dim = sizes
    Case(dim=dim, v_dim=v_dim, half=dim // 4, cache=cache, v_norm=True).check(device)


@each("clip, cache", [0.01, 0.7, 8.0], CACHES)
def test_clipped_numbers(device, clip, cache):
    Case(clip=clip, norm="all", cache=cache).check(device)


def test_nan_is_not_clipped_away(device):
    case = Case(clip=1.0, norm=None, half=0)
    case.v[2, 3] = case.q[1, 5] = np.nan
    q, _, v_cache = case.run(device)
    assert np.isnan(q).sum() == 1 and np.isnan(v_cache).sum() == 1


@pairs("context, cache", [1, 65, 190], CACHES)
def test_rings(device, context, cache):
    """Rings of one, two and three blocks."""
    Case(window=3, context=context, positions=[0, 63, 64, 130, 1_000_003], cache=cache, half=0).check(device)


# 16 bits

# Ties of f16's normal and subnormal numbers, its limits, and what lies beyond them.
ROUNDED = [
    *(0.0, -0.0, 1 + HALF, 1 + 3 * HALF, -1 - HALF, 1 + HALF * 1.001),
    *(2.0**-24, HALF_STEP, -HALF_STEP, 3 * HALF_STEP, HALF_STEP * 1.001, 2.0**-14 - HALF_STEP, 1e-40),
    *(65503.9, 65504, 65519.99, 65520, -65520, 65536, -1e30, np.finfo(np.float32).max, np.inf, -np.inf, np.nan),
]


def as_half(values):
    """Values as a cache of f16 keeps them: the nearest, and a finite number never as inf."""
    return np.where(np.isinf(values), values, np.clip(values, -LARGEST_HALF, LARGEST_HALF)).astype(np.float16)


def test_values_round_to_the_nearest_and_never_to_infinity(device):
    case = Case(kv_heads=2, rows=1, context=5, cache="f16")
    case.v[0] = np.resize(np.array(ROUNDED, np.float32), 64)
    _, _, v_cache = case.run(device)
    kept = v_cache[0, :, case.positions[0]].reshape(-1)
    np.testing.assert_array_equal(kept.astype(np.float64), as_half(case.v[0]).astype(np.float64))
    np.testing.assert_array_equal(np.signbit(kept[:23]), np.signbit(case.v[0, :23]))
    assert np.isinf(kept[: len(ROUNDED)]).sum() == 2 and (np.abs(kept[: len(ROUNDED)]) == LARGEST_HALF).sum() == 8


def test_keys_beyond_half_become_its_largest(device):
    case = Case(heads=2, kv_heads=1, dim=16, rows=3, context=9, cache="f16")
    case.norms[1] = stored(case.norms[1][1] * 1e6, "f32")
    case.k[1, 3] = np.nan
    _, k_cache, _ = case.run(device)
    wanted = case.turned(case.k, 1, case.norms[1][1])
    for row in (0, 2):
        kept = k_cache[case.slots[row], :, case.positions[row]].astype(np.float64)
        large = np.abs(wanted[row]) > LARGEST_HALF * 1.001
        assert large.sum() > 8 and (kept[large] == np.copysign(LARGEST_HALF, wanted[row][large])).all()
        small = np.abs(wanted[row]) < LARGEST_HALF
        bound = np.abs(wanted[row]).max() * 1e-4 + np.abs(wanted[row][small]) * HALF
        assert_close(kept[small], wanted[row][small], bound)
    assert np.isnan(k_cache[case.slots[1], :, case.positions[1]]).all()  # through the norm's sum


# 8 bits


@pytest.mark.parametrize("dim", [1, 24, 31, 32, 33, 80, 128])
def test_q8_rows_have_the_bits_of_the_reference(device, dim):
    case = Case(norm=None, half=0, dim=dim, cache="q8")
    case.v *= np.float32(10.0) ** np.random.default_rng(dim).integers(-9, 6, case.v.shape)
    _, k_cache, v_cache = case.run(device)
    for cache, x in ((k_cache, case.k), (v_cache, case.v)):
        rows = ref.q8_rows(x.reshape(case.rows, case.kv_heads, dim))
        kept, _ = ref.q8_values(rows, dim)
        for row in range(case.rows):
            own = cache[case.slots[row], :, case.positions[row]]
            np.testing.assert_array_equal(own[..., : 2 * -(-dim // 32)], rows[row][..., : 2 * -(-dim // 32)])
            values, scales = ref.q8_values(own, dim)
            # A number halfway between two integers may go either way: its division rounds.
            assert (np.abs(values.astype(np.float64) - kept[row]) <= scales * 1.001).all()
            assert (values == kept[row]).mean() > 0.99 - 2 / values.size
            error = np.abs(values - x.reshape(case.rows, case.kv_heads, dim)[row].astype(np.float64))
            assert (error <= scales * 0.5001).all()


def test_q8_keeps_what_tells_of_a_failure(device):
    case = Case(norm=None, half=0, dim=96, cache="q8", rows=3)
    case.v[0, 40], case.v[1, 3], case.v[2, 70] = np.nan, np.inf, 1e30
    _, _, v_cache = case.run(device)
    values = [ref.q8_values(v_cache[case.slots[row], 0, case.positions[row]], 96)[0] for row in range(3)]
    assert np.isnan(values[0][32:64]).all() and np.isfinite(np.delete(values[0], range(32, 64))).all()
    assert np.isnan(values[1][:32]).all() and np.isfinite(values[1][32:]).all()
    assert np.isfinite(values[2]).all() and values[2][70] == 127 * 65504.0


# What is refused


def refused(error, words, **options):
    case = Case(**{name: value for name, value in options.items() if name in ("dim", "half", "norm", "rows")})
    for name, value in options.items():
        if name in ("norms", "q"):
            setattr(case, name, value)
        elif name not in ("dim", "half", "norm", "rows"):
            case.options[name] = value
    with pytest.raises(error, match="heads_to_cache: " + words):
        case.run("cpu")


def test_what_is_refused():
    ones = np.ones(32, np.float32)
    refused(BuildError, "only one of q_norm and k_norm is given; give both or neither", norms=[(ones, 0), (None, 0)])
    refused(BuildError, "norm='row' is not possible; use 'head' or 'all'", norm="row")
    refused(ShapeError, "rope_table turns 34 numbers of a head, which has 32", half=17)
    refused(
        ShapeError,
        r"heads_to_cache.q_norm has shape \(32,\), expected \(128,\)",
        norm="all",
        norms=[(ones, 0), (ones, 0)],
    )
    refused(DTypeError, "q_norm is f32, k_norm f16; they must agree", norms=[(ones, 0), (ones.astype(np.float16), 0)])
