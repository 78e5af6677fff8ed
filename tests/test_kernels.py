"""Every kernel of the forward pass against the float64 oracle, over shapes that are multiples of nothing."""

import itertools

import numpy as np
import pytest
import reference
from reference import NONE

import pipeline as p
from pipeline.errors import RunError
from pipeline.tensors import Quantized, Storage

# Relative to the largest magnitude of a result: float32 products of up to a few thousand terms.
PRODUCT = 3e-6
NORM = 2e-6       # relative, per element
PROBABILITY = 1e-6
ROPE = 2e-6       # absolute, of unit-sized values at positions up to a few hundred

PLAIN = ["f32", "f16", "bf16"]
AFFINE = list(itertools.product((4, 8), (32, 64, 128), PLAIN))


def rng(*seed):
    return np.random.default_rng(seed)


def normal(shape, *seed):
    return rng(*seed).normal(size=shape).astype(np.float32)


def stored(values, dtype):
    """(Storage, the float64 values that it holds)."""
    if dtype == "bf16":
        bits = reference.bf16_bits(values)
        return Storage.of(bits, "bf16"), reference.from_bf16(bits).astype(np.float64)
    array = values.astype({"f32": np.float32, "f16": np.float16}[dtype])
    return Storage.of(array), array.astype(np.float64)


def quantized(shape, bits, group, dtype, *seed):
    """A random affine matrix, and its values from the format's definition."""
    words = rng(*seed).integers(0, 2**32, (*shape[:-1], shape[-1] * bits // 32), dtype=np.uint32)
    groups = (*shape[:-1], shape[-1] // group)
    scales, scale_values = stored(normal(groups, *seed, 1) / 2**bits, dtype)
    biases, bias_values = stored(normal(groups, *seed, 2), dtype)
    weight = Quantized(Storage.of(words), scales, biases, bits, group)
    return weight, reference.dequantize(words, scale_values, bias_values, bits, group)


def close(got, want, bound=PRODUCT):
    want = np.asarray(want, np.float64)
    assert got.shape == want.shape
    np.testing.assert_array_less(np.abs(got - want), bound * np.abs(want).max() + 1e-30)


def run(device, rows, step, inputs, run_rows=0):
    """One step on the device: step(pipe, *tensors) over the arrays of `inputs`."""
    pipe = p.Pipeline(device, rows=rows)
    tensors = [pipe.input(f"in{i}", a.shape, {"f": "f32", "u": "u32"}[a.dtype.kind]) for i, a in enumerate(inputs)]
    chain = pipe.build(step(pipe, *tensors))
    return chain.run(rows=run_rows, **{f"in{i}": a for i, a in enumerate(inputs)})


# Projections


@pytest.mark.parametrize("dtype", PLAIN)
@pytest.mark.parametrize("rows, inputs, outputs", [(1, 1, 1), (1, 31, 17), (3, 33, 1), (5, 257, 48), (9, 16, 33), (4, 700, 100)])
def test_linear(device, dtype, rows, inputs, outputs):
    weight, values = stored(normal((outputs, inputs), 1, inputs), dtype)
    x = normal((rows, inputs), 2)
    close(run(device, rows, lambda pipe, x: pipe.linear(x, weight), [x]), x @ values.T)


@pytest.mark.parametrize("bits, group, dtype", AFFINE)
def test_linear_affine(device, bits, group, dtype):
    weight, values = quantized((37, 3 * group), bits, group, dtype, 3)
    for rows in (1, 6):
        x = normal((rows, 3 * group), 4, rows)
        close(run(device, rows, lambda pipe, x: pipe.linear(x, weight), [x]), x @ values.T)


@pytest.mark.parametrize("make", [lambda n, i: stored(normal((n, 64), 5, i), "bf16"),
                                  lambda n, i: quantized((n, 64), 4, 32, "bf16", 5, i)], ids=["bf16", "q4"])  # fmt: skip
def test_three_projections_in_one(device, make):
    made = [make(n, i) for i, n in enumerate((40, 17, 1))]
    x = normal((5, 64), 6)
    results = run(device, 5, lambda pipe, x: pipe.linear3(x, [weight for weight, _ in made], "qkv"), [x])
    for got, (_, values) in zip(results, made):
        close(got, x @ values.T)


def test_three_projections_of_different_formats(device):
    made = [stored(normal((8, 64), 7), "f32"), quantized((9, 64), 8, 64, "f16", 7), stored(normal((3, 64), 8), "f16")]
    x = normal((2, 64), 9)
    results = run(device, 2, lambda pipe, x: pipe.linear3(x, [weight for weight, _ in made], "qkv"), [x])
    for got, (_, values) in zip(results, made):
        close(got, x @ values.T)


# Embedding


@pytest.mark.parametrize("dim", [1, 31, 257])
@pytest.mark.parametrize("dtype", PLAIN)
def test_embed(device, dtype, dim):
    weight, values = stored(normal((11, dim), 10), dtype)
    tokens = np.array([0, 10, 3, 11, NONE], np.uint32)   # the last two are outside
    got = run(device, 5, lambda pipe, tokens: pipe.embed(tokens, weight), [tokens])
    np.testing.assert_array_equal(got, np.concatenate([values[[0, 10, 3]], np.zeros((2, dim))]).astype(np.float32))


@pytest.mark.parametrize("bits, group, dtype", AFFINE)
def test_embed_affine(device, bits, group, dtype):
    weight, values = quantized((5, group), bits, group, dtype, 11)
    got = run(device, 2, lambda pipe, tokens: pipe.embed(tokens, weight), [np.array([4, 1], np.uint32)])
    close(got, values[[4, 1]])


# Norms


@pytest.mark.parametrize("rows, dim", [(1, 1), (3, 31), (5, 257), (2, 8193), (9, 16)])
@pytest.mark.parametrize("dtype", PLAIN)
def test_norms(device, dtype, rows, dim):
    weight, values = stored(normal((dim,), 12), dtype)
    x, y = normal((rows, dim), 13), normal((rows, dim), 14)
    np.testing.assert_allclose(run(device, rows, lambda pipe, x: pipe.rms_norm(x, weight, 1e-5), [x]),
                               reference.rms_norm(x, values, 1e-5), rtol=NORM, atol=0)
    total, normed = run(device, rows, lambda pipe, x, y: pipe.residual_norm(x, y, weight), [x, y])
    np.testing.assert_array_equal(total, x + y)
    np.testing.assert_allclose(normed, reference.rms_norm(x + y, values), rtol=NORM, atol=0)


# Positions and attention


@pytest.mark.parametrize("heads, kv_heads, dim", [(1, 1, 2), (6, 3, 18), (8, 4, 32), (5, 1, 80)])
def test_heads_to_cache(device, heads, kv_heads, dim):
    rows, slots, context = 5, 2, 300
    inv_freq = (10000.0 ** (-2 * np.arange(dim // 2) / dim)).astype(np.float32)
    q, k, v = (normal((rows, n * dim), 15, i) for i, n in enumerate((heads, kv_heads, kv_heads)))
    (q_norm, q_values), (k_norm, k_values) = stored(normal((dim,), 16), "bf16"), stored(normal((dim,), 17), "bf16")
    slot, position = np.array([0, 1, 0, 1, 0], np.uint32), np.array([0, 299, 7, 3, 255], np.uint32)
    keys, values = Storage.zeros((slots, kv_heads, context, dim)), Storage.zeros((slots, kv_heads, context, dim))

    def step(pipe, q, k, v, slot, position):
        table = pipe.rope_table(position, inv_freq)
        return pipe.heads_to_cache(q, k, v, q_norm, k_norm, table, slot, position,
                                   pipe.state("k", keys), pipe.state("v", values))

    got = run(device, rows, step, [q, k, v, slot, position])
    want = reference.rope(reference.rms_norm(q.reshape(rows, heads, dim), q_values), position, inv_freq)
    np.testing.assert_allclose(got, want, atol=ROPE * np.abs(want).max() * 50)
    turned = reference.rope(reference.rms_norm(k.reshape(rows, kv_heads, dim), k_values), position, inv_freq)
    cached_keys, cached_values = keys.numpy(device), values.numpy(device)
    for row in range(rows):
        np.testing.assert_allclose(cached_keys[slot[row], :, position[row]], turned[row], atol=ROPE * 50 * np.abs(turned).max())
        np.testing.assert_array_equal(cached_values[slot[row], :, position[row]], v.reshape(rows, kv_heads, dim)[row])
    assert np.count_nonzero(cached_values.any((1, 3))) == rows   # nothing else was written


@pytest.mark.parametrize("heads, kv_heads, dim", [(1, 1, 1), (6, 3, 18), (4, 4, 32), (8, 2, 80), (2, 1, 129)])
def test_attention(device, heads, kv_heads, dim):
    """Positions on both sides of every block of OB_ATTENTION_BLOCK."""
    position = np.array([0, 1, 254, 255, 256, 257, 511, 512, 699], np.uint32)
    rows, slots = len(position), 3
    slot = (np.arange(rows) % slots).astype(np.uint32)
    keys, values = normal((slots, kv_heads, 700, dim), 18), normal((slots, kv_heads, 700, dim), 19)
    q = normal((rows, heads, dim), 20)

    def step(pipe, q, slot, position):
        return pipe.attention(q, pipe.state("k", Storage.of(keys)), pipe.state("v", Storage.of(values)), slot, position)

    close(run(device, rows, step, [q, slot, position]), reference.attention(q, keys, values, slot, position, dim**-0.5))


def test_attention_survives_large_scores(device):
    keys = np.zeros((1, 1, 300, 16), np.float32)
    keys[0, 0, :, 0] = np.linspace(-2000, 2000, 300)
    values = normal((1, 1, 300, 16), 21)
    q = np.ones((1, 1, 16), np.float32)
    got = run(device, 1, lambda pipe, q, s, n: pipe.attention(q, pipe.state("k", Storage.of(keys)),
              pipe.state("v", Storage.of(values)), s, n, scale=1.0), [q, np.zeros(1, np.uint32), np.array([299], np.uint32)])  # fmt: skip
    close(got, reference.attention(q, keys, values, [0], [299], 1.0))


# Routing and experts


@pytest.mark.parametrize("experts, top_k", [(1, 1), (2, 2), (6, 4), (31, 5), (48, 8), (60, 4), (96, 6), (160, 8), (257, 64)])
@pytest.mark.parametrize("renormalise", [True, False])
def test_softmax_topk(device, experts, top_k, renormalise):
    logits = normal((7, experts), 22, experts)
    logits[3] = np.round(logits[3])   # ties
    ids, weights = run(device, 7, lambda pipe, x: pipe.moe_softmax_topk(x, top_k, renormalise), [logits])
    want_ids, want = reference.softmax_topk(logits, top_k, renormalise)
    np.testing.assert_array_equal(ids, want_ids)
    np.testing.assert_allclose(weights, want, atol=PROBABILITY, rtol=0)


def expert_weights(kind, experts, hidden, dim):
    if kind == "q4":
        return [quantized(shape, 4, 32, "bf16", 23, i) for i, shape in
                enumerate(((experts, hidden, dim), (experts, hidden, dim), (experts, dim, hidden)))]  # fmt: skip
    return [stored(normal(shape, 23, i) / np.sqrt(shape[-1]), kind) for i, shape in
            enumerate(((experts, hidden, dim), (experts, hidden, dim), (experts, dim, hidden)))]  # fmt: skip


@pytest.mark.parametrize("kind, experts, top_k, hidden, dim",
                         [("f32", 3, 2, 33, 17), ("f16", 5, 5, 1, 48), ("bf16", 16, 4, 100, 257), ("q4", 6, 3, 96, 64)])  # fmt: skip
def test_experts(device, kind, experts, top_k, hidden, dim):
    rows = 5
    made = expert_weights(kind, experts, hidden, dim)
    h, weights = normal((rows, dim), 24), np.abs(normal((rows, top_k), 25))
    ids = np.stack([rng(26, r).permutation(experts)[:top_k] for r in range(rows)]).astype(np.uint32)
    ids[2, 0] = NONE
    got = run(device, rows, lambda pipe, h, ids, w: pipe.experts(h, ids, w, *(weight for weight, _ in made)), [h, ids, weights])
    close(got, reference.experts(h, ids, weights, *(values for _, values in made)), 1e-5)


def test_an_id_that_is_no_expert_fails_its_row_alone(device):
    made = expert_weights("f32", 4, 8, 16)
    h, weights = normal((3, 16), 27), np.ones((3, 2), np.float32)
    ids = np.array([[0, 1], [2, 4], [3, 0]], np.uint32)   # 4 of 4 experts
    with pytest.raises(RunError, match=r"row 1: experts had nothing to choose from"):
        run(device, 3, lambda pipe, h, ids, w: pipe.experts(h, ids, w, *(weight for weight, _ in made)), [h, ids, weights])


def test_a_row_without_a_number_fails_and_names_the_step(device):
    logits = normal((3, 6), 28)
    logits[2] = np.nan
    with pytest.raises(RunError, match="row 2: moe_softmax_topk"):
        run(device, 3, lambda pipe, x: pipe.moe_softmax_topk(x, 2), [logits])


# Rows


def every_step(pipe, x, tokens, slots, positions):
    """A small model's worth of steps over x [R, 64]."""
    keys, values = (pipe.state(name, Storage.zeros((8, 2, 16, 16))) for name in "kv")
    norms = [stored(normal((n,), 30, n), "bf16")[0] for n in (64, 16, 16)]
    y = pipe.embed(tokens, quantized((9, 64), 8, 64, "f32", 31)[0])
    x, h = pipe.residual_norm(x, y, norms[0])
    q, k, v = pipe.linear3(h, [quantized((n, 64), 4, 64, "bf16", 32, n)[0] for n in (64, 32, 32)], "qkv")
    table = pipe.rope_table(positions, normal((8,), 33))
    q = pipe.heads_to_cache(q, k, v, norms[1], norms[2], table, slots, positions, keys, values)
    a = pipe.attention(q, keys, values, slots, positions)
    ids, weights = pipe.route(a, stored(normal((12, 64), 34), "f16")[0], 3)
    return pipe.experts(a, ids, weights, *(weight for weight, _ in expert_weights("bf16", 12, 40, 64)))


@pytest.mark.parametrize("rows", [2, 5, 8])
def test_a_row_is_the_same_alone_and_with_others(device, rows):
    x = normal((rows, 64), 35)
    tokens, slots = np.arange(rows, dtype=np.uint32) % 9, np.arange(rows, dtype=np.uint32)
    positions = np.arange(rows, dtype=np.uint32)
    together = run(device, rows, every_step, [x, tokens, slots, positions])
    for row in range(rows):
        one = slice(row, row + 1)
        alone = run(device, 1, every_step, [x[one], tokens[one], slots[one], positions[one]])
        np.testing.assert_array_equal(alone[0], together[row])   # bit for bit


def test_a_run_of_fewer_rows_leaves_the_others(device):
    x = normal((6, 33), 36)
    pipe = p.Pipeline(device, rows=6)
    y = pipe.rms_norm(pipe.input("x", (6, 33)))
    chain = pipe.build(y)
    chain.view(y)[:] = 7
    got = chain.run(x=x, rows=2)
    np.testing.assert_allclose(got[:2], reference.rms_norm(x[:2]), rtol=NORM)
    assert (got[2:] == 7).all()


# Sampling


def sampled(device, logits, temperature, seeds, positions, advance=False):
    rows = len(logits)
    tokens = Storage.zeros((rows,), "u32")
    place = Storage.of(np.asarray(positions, np.uint32))

    def step(pipe, logits, temperature, seeds):
        return pipe.sample(logits, temperature, seeds, pipe.state("tokens", tokens), pipe.state("positions", place), advance)

    result = run(device, rows, step, [logits.astype(np.float32), np.full(rows, temperature, np.float32) if np.isscalar(temperature)
                                      else np.asarray(temperature, np.float32), np.asarray(seeds, np.uint32)])  # fmt: skip
    return result[:, 0], np.ascontiguousarray(result[:, 1]).view(np.float32), tokens.numpy(device), place.numpy(device)


@pytest.mark.parametrize("vocab", [1, 17, 4096, 5003])
def test_greedy(device, vocab):
    logits = normal((4, vocab), 37, vocab) * 5
    logits[1] = np.round(logits[1])   # ties go to the lower index
    tokens, logprobs, fed, positions = sampled(device, logits, 0, np.zeros((4, 2)), [5, 6, 7, 8], advance=True)
    np.testing.assert_array_equal(tokens, logits.argmax(-1))
    np.testing.assert_allclose(logprobs, reference.log_softmax(logits).max(-1), atol=2e-6, rtol=1e-6)
    np.testing.assert_array_equal(fed, tokens)             # the next run's input
    np.testing.assert_array_equal(positions, [6, 7, 8, 9])


@pytest.mark.parametrize("vocab", [2, 17, 4099])
def test_gumbel_max_draws_what_the_oracle_draws(device, vocab):
    logits = normal((6, vocab), 38, vocab)
    seeds = rng(39).integers(0, 2**32, (6, 2), dtype=np.uint32)
    positions, temperature = np.arange(6) * 11, np.array([0.5, 0.7, 1, 1.3, 2, 5], np.float32)
    tokens, logprobs, *_ = sampled(device, logits, temperature, seeds, positions)
    for row in range(6):
        scores = logits[row] / np.float64(temperature[row]) + reference.gumbel_noise(vocab, positions[row], seeds[row])
        order = np.argsort(-scores)
        assert tokens[row] == order[0] or scores[order[0]] - scores[tokens[row]] < 1e-5   # float32 may split a near tie
        np.testing.assert_allclose(logprobs[row], reference.log_softmax(logits[row])[tokens[row]], atol=2e-6, rtol=1e-6)


def test_draws_follow_the_distribution(device):
    """Chi-square of 20,000 draws at temperature 1 against softmax: p > 0.001."""
    logits, rows = normal((12,), 40), 20000
    seeds = np.stack([np.arange(rows), np.zeros(rows)], -1).astype(np.uint32)
    tokens, *_ = sampled(device, np.tile(logits, (rows, 1)), 1.0, seeds, np.zeros(rows))
    expected = reference.softmax(logits) * rows
    chi = ((np.bincount(tokens, minlength=12) - expected) ** 2 / expected).sum()
    assert chi < 31.26   # 11 degrees of freedom


def test_odd_logits(device):
    inf, nan = np.inf, np.nan
    logits = np.array([[nan, 1, 2, nan], [-inf, nan, -3, -inf], [inf, 0, inf, nan], [0, 1e4, -1e4, 5]], np.float32)
    tokens, logprobs, *_ = sampled(device, logits, 0, np.zeros((4, 2)), np.zeros(4))
    np.testing.assert_array_equal(tokens, [2, 2, 0, 1])
    np.testing.assert_allclose(logprobs, [-np.log1p(np.exp(-1)), 0, -np.log(2), 0], atol=1e-6)
    for temperature in (1e-40, 0.5):
        tokens, logprobs, *_ = sampled(device, logits[1:2], temperature, np.zeros((1, 2)), np.zeros(1))
        assert tokens[0] == 2 and logprobs[0] == 0


def test_nothing_to_sample_fails_the_row(device):
    logits = np.array([[0, 1], [np.nan, -np.inf]], np.float32)
    tokens, *_ = sampled(device, logits, [0, 1], np.zeros((2, 2)), np.zeros(2))
    np.testing.assert_array_equal(tokens, [1, NONE])
