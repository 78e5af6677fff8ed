"""Cases that published kernels get wrong, by number: test_hazard_NN. Each docstring says what went
wrong elsewhere."""

import numpy as np
import pytest
from support import reference
from support.axes import axis, each, pairs
from support.experts import Layer
from support.paths import SHADERS
from support.reference import NONE

import pipeline as p
from pipeline import _core, ops
from pipeline.device import resources
from pipeline.errors import BuildError, RunError, ShapeError, UsageError
from pipeline.graph.tensors import Storage, Tensor

NORM, WEIGHT = 2e-6, 1e-6  # relative to a norm's result; absolute for routing weights
INF, NAN = np.inf, np.nan


def normal(shape, seed):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("experts", [33, 64, 128, 257, 1024])
def test_hazard_01_more_experts_than_a_simdgroup(device, experts):
    """No barrier between reading the broadcast maximum and reusing its slot for partial sums. The checker sees the
    missing barrier itself, in any run."""
    for seed in range(few(device, 20, of=2)):
        logits = normal((4, experts), seed)
        for norm_topk_prob in (True, False):
            ids, weights = ops.moe_softmax_topk(logits, 8, norm_topk_prob=norm_topk_prob, device=device)
            again = ops.moe_softmax_topk(logits, 8, norm_topk_prob=norm_topk_prob, device=device)
            assert (ids.tobytes(), weights.tobytes()) == (again[0].tobytes(), again[1].tobytes())
            want_ids, want = reference.softmax_topk(logits, 8, norm_topk_prob)
            np.testing.assert_array_equal(ids, want_ids)
            np.testing.assert_allclose(weights, want, atol=WEIGHT, rtol=0)


@pytest.mark.parametrize("experts", [6, 48, 60])
def test_hazard_02_every_expert_can_be_chosen(device, experts):
    """Exponentials were stored over the slots of the reduction."""
    logits = np.full((experts, experts), -1, np.float32)
    np.fill_diagonal(logits, 4)  # row r prefers expert r
    ids, weights = ops.moe_softmax_topk(logits, experts, device=device)
    want_ids, want = reference.softmax_topk(logits, experts)
    np.testing.assert_array_equal(ids[:, 0], np.arange(experts))
    np.testing.assert_array_equal(ids, want_ids)
    np.testing.assert_allclose(weights, want, atol=WEIGHT, rtol=0)
    assert (np.diff(weights, axis=1) <= 0).all()


@pytest.mark.parametrize("experts", [6, 60, 96, 160])
def test_hazard_03_experts_that_are_no_power_of_two(device, experts):
    """A halving-stride reduction over such a threadgroup drops lanes."""
    logits = np.zeros((1, experts), np.float32)
    logits[0, 2] = 100
    ids, weights = ops.moe_softmax_topk(logits, 4, device=device)
    np.testing.assert_array_equal(ids, [[2, 0, 1, 3]])
    np.testing.assert_allclose(weights, [[1, 0, 0, 0]], atol=WEIGHT)
    for largest in range(0, experts, few(device, 1, of=7)):  # and wherever it is
        ids, _ = ops.moe_softmax_topk(np.roll(logits, largest - 2), 1, device=device)
        assert ids[0, 0] == largest


@pytest.mark.parametrize("experts, top_k, largest", [(2, 4, 2), (8, 0, 8), (100, 65, 64), (6, -1, 6)])
def test_hazard_04_a_top_k_that_does_not_fit(experts, top_k, largest):
    """Read and wrote out of bounds."""
    message = f"top_k = {top_k} of {experts} experts; choose an integer from 1 to {largest}$"
    logits = normal((1, experts), 4)
    for function in (ops.moe_softmax_topk, ops.fused_moe_routing):
        with pytest.raises(ShapeError, match=message):
            function(logits, top_k)
    pipe = p.Pipeline(rows=1)
    with pytest.raises(ShapeError, match=message):  # with the step, before any device
        pipe.moe_router(pipe.input("h", (1, 3)), normal((experts, 3), 5), top_k)
    assert all(dispatch.step.endswith("logits") for dispatch in pipe.dispatches)


@each(
    "case, norm_topk_prob",
    [
        ([NAN, 1, 3, 2], [2, 3, 1], [np.exp(0), np.exp(-1), np.exp(-2)]),  # NaN below every number
        ([1, INF, 3, 2], [1, 2, 3], [1, 0, 0]),  # +inf takes all the weight
        ([INF, 1, INF, NAN], [0, 2, 1], [0.5, 0.5, 0]),
        ([-INF, 5, -INF, -INF], [1, 0, 2], [1, 0, 0]),
        ([-INF, NAN, 7, NAN], [2, 0, NONE], [1, 0, 0]),  # NaN also below -inf
        ([NAN, NAN, NAN, 7], [3, NONE, NONE], [1, 0, 0]),  # nothing else is left
    ],
    [True, False, False],
)
def test_hazard_05_nan_and_infinity_among_logits(device, case, norm_topk_prob):
    """Gave duplicate ids and NaN weights."""
    logits, ids, weights = case
    logits = np.array([logits, [0, 0, 0, 0]], np.float32)
    for function in (ops.moe_softmax_topk, ops.fused_moe_routing):
        got_ids, got = function(logits, 3, norm_topk_prob=norm_topk_prob, device=device)
        np.testing.assert_array_equal(got_ids, [ids, [0, 1, 2]])
        total = np.sum(weights)
        np.testing.assert_allclose(got[0], np.array(weights) / total, atol=WEIGHT)
        np.testing.assert_allclose(got[1], 1 / 3 if norm_topk_prob else 1 / 4, atol=WEIGHT)


@pairs("odd, norm_topk_prob", [NAN, -INF, INF], [True, False])
def test_hazard_05_wherever_it_stands(device, odd, norm_topk_prob):
    logits = np.tile(normal(53, 25), (53, 1))
    np.fill_diagonal(logits, odd)
    got_ids, got = ops.moe_softmax_topk(logits, 5, norm_topk_prob=norm_topk_prob, device=device)
    number = np.where(np.isnan(logits), -INF, logits)
    ids, want = reference.softmax_topk(np.minimum(number, 1e4), 5, norm_topk_prob)  # 1e4 is as good as +inf
    np.testing.assert_array_equal(got_ids, ids)
    np.testing.assert_allclose(got, want, atol=WEIGHT, rtol=0)


@each("nothing, experts", [-INF, NAN, (NAN, -INF)], [1, 4, 33])
def test_hazard_05_nothing_to_choose_from(device, nothing, experts):
    """Weights were invented. The row fails, with ids that are no experts; the others are right."""
    logits = normal((3, experts), 6)
    logits[1] = np.resize(nothing, experts)
    with pytest.raises(RunError, match="fused_moe_routing, row 1: "):
        ops.fused_moe_routing(logits, 1, np.ones(experts, np.float32), device=device)
    pipe = p.Pipeline(device, rows=3)
    ids, weights = pipe.fused_moe_routing(pipe.input("logits", logits.shape), 1)
    chain = pipe.build((ids, weights))
    with pytest.raises(RunError, match="pipeline, row 1: fused_moe_routing had nothing to choose from"):
        chain.run(logits=logits)
    assert chain.view(ids)[1, 0] == NONE and chain.view(weights)[1, 0] == 0
    np.testing.assert_array_equal(chain.view(ids)[[0, 2]], reference.softmax_topk(logits[[0, 2]], 1)[0])


def expert_layer(device, rows, routed, grouped, format="f32"):
    """A chain over x [rows, 32] and 4 experts, its ids from `routed(pipe)`, and the layer."""
    layer = Layer(np.random.default_rng(7), 4, 64, 32, (format, 32))
    pipe = p.Pipeline(device, rows=rows)
    x = pipe.input("x", (rows, 32))
    ids, weights = routed(pipe)
    return pipe.build(pipe.experts(x, ids, weights, layer.gate, layer.up, layer.down, grouped=grouped)), layer


either_form = each("grouped", [False, True])


def given_ids(rows, top_k):
    return lambda pipe: (pipe.input("ids", (rows, top_k), "u32"), pipe.input("w", (rows, top_k)))


@pairs("bad, grouped, format", [4, 5, 1000, 2**31, NONE - 1], [False, True], ["f32", "q4_bf16"])
def test_hazard_06_ids_that_are_no_experts(device, bad, grouped, format):
    """Wrote into other tokens' rows. The row fails, the others are right."""
    x, weights = normal((3, 32), 10), normal((3, 2), 11)
    ids = np.array([[0, 3], [2, bad], [1, 2]], np.uint32)
    chain, layer = expert_layer(device, 3, given_ids(3, 2), grouped, format)
    with pytest.raises(RunError, match="row 1: experts .*an id that is no expert"):
        chain.run(x=x, ids=ids, w=weights)
    got = chain.view(chain.plan.outputs[0])
    valid = np.where(ids < 4, ids, NONE)  # the expert that there is still counts
    layer.check(device, got, x, valid, weights)


@either_form
def test_hazard_06_the_same_expert_twice(device, grouped):
    x, weights, ids = normal((2, 32), 12), normal((2, 3), 13), np.array([[1, 1, 1], [3, 0, 3]], np.uint32)
    chain, layer = expert_layer(device, 2, given_ids(2, 3), grouped)
    layer.check(device, chain.run(x=x, ids=ids, w=weights), x, ids, weights)


@either_form
def test_hazard_06_routing_of_nan_reaches_no_expert(device, grouped):
    x, logits = normal((3, 32), 14), normal((3, 4), 15)
    logits[1] = NAN
    logits[2, 1:] = NAN  # one expert is left of two
    routed = lambda pipe: pipe.fused_moe_routing(pipe.input("logits", (3, 4)), 2)
    chain, layer = expert_layer(device, 3, routed, grouped)
    with pytest.raises(RunError, match="row 1: fused_moe_routing "):  # the first failure is what is told
        chain.run(x=x, logits=logits)
    ids, weights = reference.softmax_topk(logits[:1], 2)
    ids, weights = np.array([*ids, [NONE] * 2, [0, NONE]]), np.array([*weights, [0, 0], [1, 0]])
    layer.check(device, chain.view(chain.plan.outputs[0]), x, ids, weights)


@each("dim", axis([8192, 8193, 16384, 65536], on_checker=[8193, 16384]))
def test_hazard_07_rows_longer_than_threadgroup_memory(device, dim):
    """The sum was stashed in threadgroup memory and overflowed."""
    residual, x, weight = normal((2, dim), 16), normal((2, dim), 17), normal(dim, 18)
    total, normed = ops.fused_residual_norm(residual, x, weight, device=device)
    np.testing.assert_array_equal(total, residual + x)
    want = reference.rms_norm(residual.astype(np.float64) + x, weight)
    np.testing.assert_allclose(normed, want, rtol=NORM, atol=0)
    _, scaled = ops.fused_residual_norm_scalar(residual, x, weight, 0.5, device=device)
    np.testing.assert_array_equal(scaled, normed * np.float32(0.5))


def residual_norm_into(device, where, residual, x, dtype="f32"):
    """(what out_sum holds, normed) with out_sum = where(pipe, residual, x)."""
    rows, dim = residual.shape
    pipe = p.Pipeline(device, rows=rows)
    a = pipe.rms_norm(pipe.input("a", (rows, dim), dtype))  # scratch, as in a model
    b = pipe.input("b", (rows, dim), dtype)
    total, normed = pipe.fused_residual_norm(a, b, out_sum=where(pipe, a, b))
    again = pipe.fused_norm_add(total, normed)  # who reads the sum next waits for it
    return pipe.build((total, normed, again)).run(a=residual, b=x)


@pairs("dim, dtype", [1, 31, 48, 8193], ["f32", "bf16"])
def test_hazard_08_the_sum_in_place(device, dim, dtype):
    """Elements were added twice. In place over the residual or x gives the bits of memory apart."""
    residual, x = normal((3, dim), 19), normal((3, dim), 20)
    if dtype == "bf16":
        residual, x = reference.bf16_bits(residual), reference.bf16_bits(x)
    apart = residual_norm_into(device, lambda pipe, a, b: True, residual, x, dtype)
    for where in (lambda pipe, a, b: a, lambda pipe, a, b: b):
        for got, want in zip(residual_norm_into(device, where, residual, x, dtype), apart):
            np.testing.assert_array_equal(got, want)
    array = residual.copy()
    total, _ = ops.fused_residual_norm(array, x, out_sum=array, bits="bf16" if dtype == "bf16" else None, device=device)
    assert total is array
    np.testing.assert_array_equal(total, ops.fused_residual_norm(residual, x, bits="bf16", device=device)[0])


def test_hazard_08_a_part_in_place_is_refused(device):
    whole = Storage.zeros((2, 1, 16))
    pipe = p.Pipeline(device, rows=1)
    both = Tensor("both", (1, 16), "f32", whole, "state")
    first, second = (pipe.state(name, whole.part(i)) for i, name in enumerate(("first", "second")))
    for residual, x, into in ((both, second, first), (second, both, first), (first, second, both)):
        with pytest.raises(BuildError, match=f"out_sum = {into.name} overlaps both|out_sum = both overlaps first"):
            pipe.fused_residual_norm(residual, x, out_sum=into)
    with pytest.raises(BuildError, match="out_sum = first overlaps fused_residual_norm.weight"):
        weight = Tensor("fused_residual_norm.weight", (16,), "f32", whole.part(0), "weight")
        pipe.fused_residual_norm(second, second, weight, out_sum=first)
    assert not pipe.dispatches
    pipe.fused_residual_norm(second, second, out_sum=first)  # neighbours are apart


NORMS = {
    "rms_norm": lambda pipe, r, x, w: pipe.rms_norm(x, w),
    "fused_norm_add": lambda pipe, r, x, w: pipe.fused_norm_add(r, x, w),
    "fused_norm_add_scalar": lambda pipe, r, x, w: pipe.fused_norm_add_scalar(r, x, w, w),
    "fused_residual_norm": lambda pipe, r, x, w: pipe.fused_residual_norm(r, x, w),
    "fused_residual_norm_scalar": lambda pipe, r, x, w: pipe.fused_residual_norm_scalar(r, x, w, w),
    "fused_moe_routing": lambda pipe, r, x, w: pipe.fused_moe_routing(x, 3),
    "fused_moe_routing_scaled": lambda pipe, r, x, w: pipe.fused_moe_routing(x, 3, per_expert_scale=w),
}


@pytest.mark.parametrize("kernel", NORMS)
def test_hazard_09_a_grid_with_a_spare_row(device, kernel):
    """No guard: the spare threadgroup wrote past the end. Here 3 rows in a grid of 4."""
    residual, x, weight = normal((4, 21), 21), normal((4, 21), 22), normal(21, 23)

    def outputs(rows):
        pipe = p.Pipeline(device, rows=4)
        made = NORMS[kernel](pipe, pipe.input("r", (4, 21)), pipe.input("x", (4, 21)), weight)
        made = made if isinstance(made, tuple) else (made,)
        pipe.dispatches[-1].constants["rows"] = rows
        chain = pipe.build(made)
        for tensor in made:
            chain.view(tensor)[:] = 7
        return chain.run(r=residual, x=x)

    for got, want in zip(outputs(3), outputs(4)):
        np.testing.assert_array_equal(got[:3], want[:3])
        assert (got[3] == 7).all() and (want[3] != 7).all()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda a: ops.fused_residual_norm(a, a[:2]), r"input has shape \(2, 16\), expected \(3, 16\)"),
        (lambda a: ops.fused_residual_norm(a, a[:, :15]), r"input has shape \(3, 15\), expected \(3, 16\)"),
        (lambda a: ops.fused_norm_add(a, a, a[0, :15]), r"weight has shape \(15,\), expected \(16,\)"),
    ],
)
def test_hazard_09_sizes_are_checked(call, message):
    with pytest.raises(ShapeError, match=message):
        call(normal((3, 16), 24))


# Sampling


def few(device, count, of=6):
    """How many rows to run: `count`, or a handful where each thread is run by itself."""
    return of if device.name == "checker" else count


def many(row, count):
    """One row of logits for many draws."""
    return np.broadcast_to(np.asarray(row, np.float32), (count, len(row)))


@each("vocab", axis([33, 1025, 8193, 100_000], on_checker=[33, 1025, 8193]))
def test_hazard_10_a_vocabulary_wider_than_a_threadgroup(device, vocab):
    """Other threads' sums were read behind a barrier that orders threadgroup memory only."""
    row, count = normal(vocab, 30) * 2, few(device, 200)
    uniform = (np.arange(count) + 0.5) / count
    tokens, _ = ops.softmax_sample(many(row, count), 1.0, uniform, device=device)
    for token, r in zip(tokens.tolist(), uniform):
        wanted, distance = reference.inverse_cdf(row, 1.0, r)
        assert token == wanted or distance < 2e-6


@pytest.mark.parametrize("zeros", [1, 64, 8192, 20_000])
def test_hazard_11_uniform_zero_and_a_first_token_without_probability(device, zeros):
    """`cdf >= r` picks token 0 at r = 0."""
    row = np.zeros(zeros + 7, np.float32)
    row[:zeros] = -INF
    assert ops.softmax_sample(row[None], 1.0, 0.0, device=device).tokens[0] == zeros
    row[:zeros] = -200  # a probability that underflows to 0
    assert ops.softmax_sample(row[None], 1.0, 0.0, device=device).tokens[0] == zeros


@pytest.mark.parametrize("vocab", [151_936, 248_320])
def test_hazard_12_sums_that_drift(processor, vocab):
    """A serial f32 sum ended at 0.9983 or 1.0029; the last token, even a masked one, took the rest. Not on the checker:
    what these kernels do to memory is hazard 10."""
    device = processor
    uniform = np.concatenate([np.linspace(0, 1, few(device, 500), endpoint=False), [1 - 2.0**-24]])
    flat = np.zeros(vocab, np.float32)
    tokens, _ = ops.softmax_sample(many(flat, len(uniform)), 1.0, uniform, device=device)
    assert np.abs(tokens - np.float32(uniform).astype(np.float64) * vocab).max() < 1.5
    flat[vocab - 300 :] = -INF
    tokens, _ = ops.softmax_sample(many(flat, len(uniform)), 1.0, uniform, device=device)
    assert tokens.max() == vocab - 301


def test_hazard_13_more_logits_than_float_can_count(processor):
    """The element count travelled as a float: exact to 2²⁴ only."""
    vocab = 2**24 + 3
    logits = np.zeros((1, vocab), np.float32)
    logits[0, -1] = 40
    for result in (
        ops.softmax_sample(logits, 1.0, 0.5, device=processor),
        ops.gumbel_sample(logits, 1.0, 1, device=processor),
        ops.gumbel_sample(logits, 1.0, 1, top_k=2**24 + 2, device=processor),
    ):
        assert result.tokens[0] == vocab - 1
    logits[0, -1] = -INF
    assert ops.softmax_sample(logits, 1.0, 1 - 2.0**-24, device=processor).tokens[0] in (vocab - 2, vocab - 3)


@pytest.mark.parametrize("gap", [20, 104, 120, 3e38])
def test_hazard_14_the_log_of_an_underflowed_probability(device, gap):
    """log(exp(-120)) was -inf; logit - max - log(sum) is not. At a temperature of the gap that token is drawn often."""
    row, count = np.array([0, -gap], np.float32), few(device, 99, of=20)
    for tokens, logprobs in (
        ops.softmax_sample(many(row, count), gap, np.linspace(0, 0.99, count), device=device),
        ops.gumbel_sample(many(row, count), gap, np.arange(count), device=device),
    ):
        assert set(tokens.tolist()) == {0, 1}
        np.testing.assert_allclose(
            logprobs, np.where(tokens == 1, -gap, 0) - np.log1p(np.exp(-gap)), atol=1e-5, rtol=1e-6
        )


@pytest.mark.parametrize("gap, count", [(16, 2000), (18, 4000), (20, 12_000)])
def test_hazard_15_the_upper_tail_of_the_noise(gap, count):
    """Noise that ends at 16.6 never draws one of 262,144 tokens at a gap of 20, which weigh 5·10⁻⁴."""
    row = np.zeros(262_145, np.float32)
    row[7] = gap
    tokens, _ = ops.gumbel_sample(many(row, count), 1.0, np.arange(count))
    tail = 262_144 * np.exp(-gap) / (1 + 262_144 * np.exp(-gap))
    assert abs((tokens != 7).sum() - count * tail) < 3 * np.sqrt(count * tail * (1 - tail))
    assert (tokens != 7).any()


NOISE = """
kernel void noise(device const uint *bits [[buffer(0)]], device float *noise [[buffer(1)]],
                  uint i [[threadgroup_position_in_grid]], uint thread_index [[thread_index_in_threadgroup]]) {
    if (thread_index == 0) lanes_store(noise + 16 * i, gumbel(lanes_bits(bits[i])));
}
"""


def test_hazard_16_the_extremes_of_the_noise(device):
    """u = 0 or 1 gave infinite noise. As bits go up the noise does, from -3.13 to 22.87: at words that Philox gives
    once in 2³² draws, at powers of two, and on both sides of where the formula changes."""
    library = device.core.compile(resources._with_headers(SHADERS / "philox.h") + NOISE)
    near = [0, 2**15, 2**26, 2**30, 2**31, 2**32 - 2**30, 2**32 - 2**26, 2**32 - 2**15, 2**32]
    words = [edge + i for edge in near for i in range(-40, 40)]
    words += [word + i for word in (*(2 ** np.arange(33)), *(2**32 - 2 ** np.arange(33))) for i in (-1, 0, 1)]
    words = np.array(sorted({int(word) for word in words if 0 <= word < 2**32}), np.uint32)
    bits, made = device.core.buffer(words.nbytes), device.core.buffer(16 * words.nbytes)
    np.frombuffer(bits, np.uint32)[:] = words
    bindings = [(0, bits, 0, words.nbytes), (1, made, 0, made.nbytes)]
    device.core.chain([_core.Dispatch(library.kernel("noise"), bindings, None, (len(words), 1, 1))]).run()
    noise = np.frombuffer(made, np.float32).reshape(-1, 16)
    assert (noise == noise[:, :1]).all()
    noise = noise[:, 0]
    np.testing.assert_allclose(noise, -np.log(-np.log((words + 0.5) / 2**32)), rtol=1e-6, atol=1e-6)
    assert np.isfinite(noise).all() and (np.diff(noise) >= 0).all()


def test_hazard_16_the_largest_noise_of_a_million(processor):
    """The extremes of a vocabulary of 2²⁰ stand for words that no test waits for."""
    logits = np.zeros((1, 2**20), np.float32)
    for seed in range(4):
        wanted = reference.gumbel_noise(2**20, 3, (seed, 9)).argmax()
        assert ops.gumbel_sample(logits, 1.0, seed + (9 << 32), 3, device=processor).tokens[0] == wanted


def test_hazard_17_temperatures_at_the_edge(device):
    """0 divided by zero, and a negative one differed between host and device."""
    logits = normal((6, 9000), 31)
    for temperature in (0, -0.0, -1, -1e30, 1e-40, 1e-45, [0, -1, 1e-40, 1e-30, 1e-10, 1e-6]):
        for call in (
            lambda t: ops.gumbel_sample(logits, t, np.arange(6), device=device),
            lambda t: ops.gumbel_sample(logits, t, np.arange(6), top_k=9, top_p=0.9, device=device),
            lambda t: ops.softmax_sample(logits, t, 0.7, device=device),
        ):
            np.testing.assert_array_equal(call(temperature).tokens, logits.argmax(1))
    for temperature in (NAN, INF, -INF, [1, 1, 1, 1, 1, NAN]):
        for call in (lambda t: ops.gumbel_sample(logits, t, 0), lambda t: ops.softmax_sample(logits, t, 0.5)):
            with pytest.raises(UsageError, match="temperature"):
                call(temperature)


@pytest.mark.parametrize(
    "logits, settings, support",
    [
        (np.log([0.5, 0.3, 0.15, 0.05]), {"top_p": 0.9}, {0, 1, 2}),
        (np.log([0.5, 0.3, 0.15, 0.05]), {"top_p": 0.79}, {0, 1}),
        (np.log([0.05, 0.15, 0.3, 0.5]), {"top_p": 0.9}, {1, 2, 3}),
        ([0, 0, 0, 0], {"top_p": 0.5}, {0, 1}),
        ([0, 0, 0, 0], {"top_k": 3}, {0, 1, 2}),
        ([1, 2, 1, 1], {"top_k": 3}, {0, 1, 2}),
        ([0, 0, 0, 0], {"top_p": 1e-9}, {0}),
        ([3, 1, 3, 3], {"top_k": 3, "top_p": 0.5}, {0, 2}),
        ([3, 1, 3, 3], {"top_k": 2, "min_p": 1}, {0, 2}),
    ],
)
def test_hazard_18_ties_at_the_threshold(device, logits, settings, support):
    """A token stays while the mass before it is < p; exactly k stay, the lower index first."""
    for padding in (0, 5000) if device.name == "checker" else (0, 5000, 20_000):  # masked tokens before and after
        row = np.pad(np.asarray(logits, np.float32), padding, constant_values=-INF)
        count = few(device, 300)
        tokens, _ = ops.gumbel_sample(many(row, count), 1.0, np.arange(count), device=device, **settings)
        assert set((tokens - padding).tolist()) <= support
        assert count < 300 or set((tokens - padding).tolist()) == support


@each("top_k", axis([5, 100, 1000], on_checker=[5, 1000]))
def test_hazard_18_bf16_logits(device, top_k):
    """Logits of a model in bf16 have a few hundred values: ties everywhere."""
    vocab = 8500 if device.name == "checker" else 30_000  # two parts of 8,192, or four
    row = reference.from_bf16(reference.bf16_bits(normal(vocab, 32) * 4))
    count = few(device, 500)
    tokens, _ = ops.gumbel_sample(many(row, count), 50.0, np.arange(count), top_k=top_k, device=device)
    allowed = set(np.argsort(-row, kind="stable")[:top_k].tolist())
    assert set(tokens.tolist()) <= allowed and len(set(tokens.tolist())) > 0.3 * min(top_k, count)


@pytest.mark.parametrize("first, second", [(1, 1024), (0, 8191), (4095, 4096), (8191, 8192), (15, 16), (3, 19_999)])
def test_hazard_19_equal_maxima_far_apart(device, first, second):
    """Argmax returned the later one."""
    logits = normal((1, 20_000), 33)
    logits[0, [first, second]] = 9
    assert ops.gumbel_sample(logits, 0, 0, device=device).tokens[0] == first
    assert ops.softmax_sample(logits, 0, 0.99, device=device).tokens[0] == first
    assert ops.gumbel_sample(logits, 1.0, 0, top_k=1, device=device).tokens[0] == first


@pairs("vocab, filtered", [700, 20_000], [True, False])
def test_hazard_20_rows_with_settings_of_their_own(device, vocab, filtered):
    """One temperature, p and seed served all rows."""
    logits, rng = normal((9, vocab), 34) * 3, np.random.default_rng(35)
    settings = {
        "temperature": rng.choice([0, 0.5, 1, 2], 9),
        "seed": rng.integers(0, 2**63, 9),
        "step": rng.integers(0, 99, 9),
    }
    filters = {
        "top_k": rng.choice([0, 1, 50], 9),
        "top_p": rng.choice([1, 0.5, 0.9], 9),
        "min_p": rng.choice([0, 0.1], 9),
    }
    settings |= filters if filtered else {}
    together = ops.gumbel_sample(logits, device=device, **settings)
    order = rng.permutation(9)
    shuffled = ops.gumbel_sample(
        logits[order], device=device, **{name: values[order] for name, values in settings.items()}
    )
    for place, row in enumerate(order):
        own = {name: values[row] for name, values in settings.items()}
        alone = ops.gumbel_sample(logits[row : row + 1], device=device, **own)
        assert (alone.tokens[0], alone.logprobs[0]) == (together.tokens[row], together.logprobs[row])
        assert (alone.tokens[0], alone.logprobs[0]) == (shuffled.tokens[place], shuffled.logprobs[place])
