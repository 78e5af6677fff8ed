"""softmax_sample and gumbel_sample as functions: distribution, determinism, what they refuse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import reference as ref
from support.axes import axis, each
from support.paths import SHADERS

import pipeline as p
from pipeline import _core, ops
from pipeline.device import resources
from pipeline.errors import DTypeError, RunError, ShapeError, UsageError

pytestmark = pytest.mark.one_processor  # no step here has native kernels

QWEN_VOCAB = 151936
P_ABOVE_ONE_IN_A_THOUSAND = 3.09  # of chi_square_z
LOGPROB = 1e-5  # Σ exp of 152k terms in f32, and its logarithm
CDF_ROUNDING = 2e-6  # uniform numbers nearer to a step than that may take either side
# On the checker around a block of 64, and up to the smallest of two parts, of 8,192 logits each.
SMALL_VOCABS = axis(
    (1, 33, 65, 8193, 2, 64, 500, 4096, 8192, 20000),
    on_checker=(1, 33, 65, 8193),
    daily=(1, 33, 65, 8193, 64, 8192, 20000),
)


def logits_of(vocab, rows=1, seed=0, scale=3.0):
    return (np.random.default_rng((seed, vocab)).normal(size=(rows, vocab)) * scale).astype(np.float32)


def many(row, count):
    """One row for many draws."""
    return np.broadcast_to(np.asarray(row, np.float32), (count, len(row)))


def logprob_of(logits, tokens):
    return np.take_along_axis(ref.log_softmax(logits), np.asarray(tokens, np.int64)[:, None], 1)[:, 0]


# Inverse CDF


@each("vocab, temperature", SMALL_VOCABS, [0.25, 1.0, 3.0])
def test_softmax_sample_is_the_inverse_cdf(device, vocab, temperature):
    count = 8 if device.name == "checker" else 40
    logits = logits_of(vocab, count)
    uniform = np.random.default_rng(vocab).random(count)
    tokens, logprobs = ops.softmax_sample(logits, temperature, uniform, device=device)
    wanted = [ref.inverse_cdf(row, temperature, r) for row, r in zip(logits, np.float32(uniform).astype(np.float64))]
    clear = [row for row in range(count) if wanted[row][1] > CDF_ROUNDING]
    assert len(clear) >= 0.75 * count
    assert [tokens[row] for row in clear] == [wanted[row][0] for row in clear]
    np.testing.assert_allclose(logprobs, logprob_of(logits, tokens), atol=LOGPROB)


def test_softmax_sample_over_a_million_draws():
    """Chi-square at Qwen's vocabulary; every token, the last included, as often as it should be."""
    count, row = 10**6, logits_of(QWEN_VOCAB, scale=1.0)[0]
    tokens, _ = ops.softmax_sample(many(row, count), 1.0, np.random.default_rng(1).random(count))
    assert ref.chi_square_z(np.bincount(tokens, minlength=QWEN_VOCAB), ref.softmax(row)) < P_ABOVE_ONE_IN_A_THOUSAND


@each("uniform", axis([0.0, 0.3, 0.5, 1 - 2.0**-24, 1 - 2.0**-40], daily=[0.0, 0.5, 1 - 2.0**-24, 1 - 2.0**-40]))
def test_softmax_sample_never_draws_what_has_no_probability(device, uniform):
    logits = np.full((1, 20000), -np.inf, np.float32)
    logits[0, [7, 8200, 16000]] = 1
    logits[0, [9, 8300, 19999]] = np.nan
    token = ops.softmax_sample(logits, 1.0, uniform, device=device).tokens[0]
    assert token == [7, 8200, 16000][int(uniform * 3)]


@pytest.mark.parametrize("temperature", [0, -1.0, 1e-40])
def test_softmax_sample_of_no_temperature_is_argmax(device, temperature):
    logits = logits_of(20000, 5)
    tokens, _ = ops.softmax_sample(logits, temperature, 0.999, device=device)
    np.testing.assert_array_equal(tokens, logits.argmax(1))


# Gumbel-max


@each("vocab, temperature", SMALL_VOCABS, [0.25, 1.0, 3.0])
def test_gumbel_sample_is_the_largest_with_noise(device, vocab, temperature):
    rng, count = np.random.default_rng(vocab), 6 if device.name == "checker" else 20
    logits, seeds, steps = (
        logits_of(vocab, count),
        rng.integers(0, 2**64, count, np.uint64),
        rng.integers(0, 2**32, count, np.uint32),
    )
    tokens, logprobs = ops.gumbel_sample(logits, temperature, seeds, steps, device=device)
    noise = [
        ref.gumbel_noise(vocab, step, (seed & 0xFFFFFFFF, seed >> 32)) for seed, step in zip(seeds.tolist(), steps)
    ]
    scores = logits / temperature + noise
    best, lead = scores.argmax(1), np.sort(scores, 1)[:, -1] - np.sort(scores, 1)[:, -2:-1].max(1, initial=-np.inf)
    clear = lead > 1e-4
    assert clear.sum() >= 0.9 * count - 1
    np.testing.assert_array_equal(tokens[clear], best[clear])
    np.testing.assert_allclose(logprobs, logprob_of(logits, tokens), atol=LOGPROB)


def test_gumbel_sample_over_many_draws():
    """Chi-square at Qwen's vocabulary: 1,600 tokens in reach, in its first and last block and anywhere."""
    count, rng = 10**5, np.random.default_rng(2)
    row = np.full(QWEN_VOCAB, -60, np.float32)
    for block in (0, QWEN_VOCAB // 64 - 1, *rng.permutation(QWEN_VOCAB // 64)[:23]):
        row[64 * block : 64 * block + 64] = rng.normal(size=64) * 1.5
    tokens, _ = ops.gumbel_sample(many(row, count), 1.0, np.arange(count))
    counts = np.bincount(tokens, minlength=QWEN_VOCAB)
    assert counts[row == -60].sum() == 0
    assert ref.chi_square_z(counts, ref.softmax(row)) < P_ABOVE_ONE_IN_A_THOUSAND


@pytest.mark.exhaustive
def test_gumbel_sample_over_a_million_draws_of_the_whole_vocabulary():
    row, counts = logits_of(QWEN_VOCAB, scale=1.0)[0], np.zeros(QWEN_VOCAB, int)
    for first in range(0, 10**6, 10**5):
        tokens, _ = ops.gumbel_sample(many(row, 10**5), 1.0, np.arange(first, first + 10**5))
        counts += np.bincount(tokens, minlength=QWEN_VOCAB)
    assert ref.chi_square_z(counts, ref.softmax(row)) < P_ABOVE_ONE_IN_A_THOUSAND


@pytest.mark.parametrize("by", ["seed", "step"])
def test_gumbel_sample_of_a_flat_vocabulary(by):
    """All of Qwen's vocabulary in reach; independent over seeds, and over the steps of one seed."""
    count, row = 10000, logits_of(QWEN_VOCAB, scale=1.0)[0]
    seed, step = (np.arange(count), 0) if by == "seed" else (123, np.arange(count))
    tokens, _ = ops.gumbel_sample(many(row, count), 1.0, seed, step)
    assert ref.chi_square_z(np.bincount(tokens, minlength=QWEN_VOCAB), ref.softmax(row)) < P_ABOVE_ONE_IN_A_THOUSAND


@pytest.mark.parametrize("rows, vocab", [(7, 500), (7, 20000)])
def test_a_row_is_as_if_alone(device, rows, vocab):
    """In a batch of 7, in another order, and with 1 or 2 threads: the same bits."""
    logits, seeds = logits_of(vocab, rows), np.arange(100, 100 + rows)
    settings = {
        "temperature": np.linspace(0, 2, rows),
        "step": np.arange(rows),
        "top_k": [0, 1, 5, 0, 40, 0, 3],
        "top_p": [1, 1, 0.9, 0.8, 0.5, 1, 1],
        "min_p": [0, 0, 0, 0, 0, 0.1, 0.05],
    }
    batch = ops.gumbel_sample(logits, seed=seeds, device=device, **settings)
    for row in range(rows):
        own = {name: values[row] for name, values in settings.items()}
        alone = ops.gumbel_sample(logits[row : row + 1], seed=seeds[row], device=device, **own)
        assert [each.tobytes() for each in alone] == [each[row].tobytes() for each in batch]
    order = np.random.default_rng(0).permutation(rows)
    own = {name: np.asarray(values)[order] for name, values in settings.items()}
    shuffled = ops.gumbel_sample(logits[order], seed=seeds[order], device=device, **own)
    assert [each.tobytes() for each in shuffled] == [each[order].tobytes() for each in batch]
    for threads in (1, 2) if device.name == "cpu" else ():  # other devices round sums otherwise
        other = ops.gumbel_sample(logits, seed=seeds, device=p.open_device(threads=threads), **settings)
        assert [each.tobytes() for each in other] == [each.tobytes() for each in batch]


def test_a_seed_is_drawn_and_reported():
    logits = np.zeros((50, 4096), np.float32)
    drawn = ops.gumbel_sample(logits, 1.0)
    assert drawn.seeds.dtype == np.uint64 and len(set(drawn.seeds.tolist())) == 50
    assert len(set(drawn.tokens.tolist())) > 40
    again = ops.gumbel_sample(logits, 1.0, drawn.seeds)
    np.testing.assert_array_equal(again.tokens, drawn.tokens)
    assert ops.gumbel_sample(logits, 1.0).tokens.tolist() != drawn.tokens.tolist()


def test_one_row_for_many_draws_is_the_same_as_its_copies(device):
    row = logits_of(20000)[0]
    for filters in ({}, {"top_k": 30, "top_p": 0.9}):
        shared = ops.gumbel_sample(many(row, 9), 0.8, np.arange(9), device=device, **filters)
        copies = ops.gumbel_sample(np.tile(row, (9, 1)), 0.8, np.arange(9), device=device, **filters)
        assert [each.tobytes() for each in shared] == [each.tobytes() for each in copies]
    uniform = np.linspace(0, 0.99, 9)
    shared, copies = (ops.softmax_sample(x, 0.8, uniform, device=device) for x in (many(row, 9), np.tile(row, (9, 1))))
    assert [each.tobytes() for each in shared] == [each.tobytes() for each in copies]


def test_any_strides_will_do(device):
    wide = logits_of(1000, 8)
    for view in (wide[::2, ::3], np.asfortranarray(wide), wide[:, ::-1]):
        plain = ops.gumbel_sample(np.ascontiguousarray(view), 1.0, 5, device=device)
        strided = ops.gumbel_sample(view, 1.0, 5, device=device)
        assert [each.tobytes() for each in strided] == [each.tobytes() for each in plain]


# Filters


@given(
    vocab=st.sampled_from([2, 5, 60, 300, 4096, 9000]),
    levels=st.sampled_from([2, 8, 1000]),
    seed=st.integers(0, 10**6),
    top_k=st.sampled_from([0, 1, 2, 7, 40, 2500]),
    top_p=st.sampled_from([1.0, 0.95, 0.6, 0.1]),
    min_p=st.sampled_from([0, 0.02, 0.3]),
    temperature=st.sampled_from([0.4, 1.0, 1.7]),
)
def test_filters_keep_what_a_full_sort_keeps(vocab, levels, seed, top_k, top_p, min_p, temperature):
    """With few levels most logits are ties."""
    rng = np.random.default_rng(seed)
    row = (np.round(rng.normal(size=vocab) * levels) / levels * 3).astype(np.float32)
    count = 400
    tokens, _ = ops.gumbel_sample(many(row, count), temperature, np.arange(count), seed, top_k, top_p, min_p)
    near = [
        ref.kept(row, temperature, top_k, min(1, top_p + e) if top_p < 1 else 1, max(0, min_p - e) if min_p else 0)
        for e in (1e-5, -1e-5)
    ]
    widest, narrowest = (set(indices.tolist()) for indices, _ in near)
    drawn = set(tokens.tolist())
    assert drawn <= widest
    likely = {int(i) for i, share in zip(*ref.kept(row, temperature, top_k, top_p, min_p)) if share > 0.05}
    assert likely & narrowest <= drawn


@each(
    "vocab, filters",
    [QWEN_VOCAB, 1000],
    [{"top_k": 100, "top_p": 0.8, "min_p": 0.05}, {"top_k": 50}, {"top_p": 0.7}, {"min_p": 0.1}],
)
def test_filtered_draws_follow_the_softmax_of_what_is_kept(vocab, filters):
    count, row, temperature = 20000 if vocab < 9000 else 4000, logits_of(vocab)[0], 0.9
    tokens, _ = ops.gumbel_sample(many(row, count), temperature, np.arange(count), **filters)
    indices, shares = ref.kept(row, temperature, **filters)
    probabilities = np.zeros(vocab)
    probabilities[indices] = shares
    assert ref.chi_square_z(np.bincount(tokens, minlength=vocab), probabilities) < P_ABOVE_ONE_IN_A_THOUSAND


@each(
    "top_k",
    axis(
        [1, 39, 40, 41, 2000, 2374, 2375, 9000, 151935, 151936, 2**31 - 1],
        daily=[1, 40, 41, 2374, 2375, 151935, 151936, 2**31 - 1],
    ),
)
def test_top_k_at_every_size(top_k):
    """Below and above the number of blocks, of what a list holds, and of the vocabulary; all ties."""
    row = np.zeros(QWEN_VOCAB, np.float32)
    row[1::2] = 1e-3
    tokens, _ = ops.gumbel_sample(many(row, 300), 1.0, np.arange(300), 0, top_k)
    allowed = ref.kept(row, 1.0, min(top_k, QWEN_VOCAB))[0]
    assert set(tokens.tolist()) <= set(allowed.tolist())
    assert tokens.max() > 0.97 * allowed.max() or top_k == 1


def test_odd_values_under_filters(device):
    row = np.array([[np.nan, 1, np.inf, 0, np.inf, -np.inf, np.nan, 5]], np.float32)
    count = 4 if device.name == "checker" else 20
    for filters in ({"top_k": 3}, {"top_p": 0.5}, {"min_p": 0.5}, {"top_k": 1}):
        tokens, logprobs = ops.gumbel_sample(np.repeat(row, count, 0), 1.0, np.arange(count), device=device, **filters)
        assert set(tokens.tolist()) <= ({2} if filters in ({"top_p": 0.5}, {"top_k": 1}) else {2, 4})
        assert (logprobs == np.float32(-np.log(2))).all()
    row = np.array([[np.nan, -0.0, 0.0, -1e-45, -np.inf]], np.float32)
    tokens, _ = ops.gumbel_sample(np.repeat(row, 50, 0), 1.0, np.arange(50), 0, 2, device=device)
    assert set(tokens.tolist()) == {1, 2}


# Random bits


PHILOX = """
kernel void bits(device const uint *in [[buffer(0)]], device uint *out [[buffer(1)]]) {
    uint4 words = philox(uint4(in[0], in[1], in[2], in[3]), uint2(in[4], in[5]));
    out[0] = words.x; out[1] = words.y; out[2] = words.z; out[3] = words.w;
    auto keys = philox_keys(uint2(in[4], in[5]));
    LanesBits lanes[2];
    philox_lanes(in[0], in[1], keys, lanes);
    for (uint i = 0; i < 32; i++) out[4 + i] = lanes_bits_at(lanes[i / 16], i % 16);
}
"""


@pytest.fixture(scope="module")
def philox():
    """philox(counter, key) on the default device: the four words, and the 32 of eight counters."""
    device = p.open_device()
    library = device.core.compile(resources._with_headers(SHADERS / "philox.h") + "using namespace metal;\n" + PHILOX)
    given, made = device.core.buffer(24), device.core.buffer(144)
    chain = device.core.chain([_core.Dispatch(library.kernel("bits"), [(0, given, 0, 24), (1, made, 0, 144)])])

    def call(counter, key):
        np.frombuffer(given, np.uint32)[:] = (*counter, *key)
        chain.run()
        words = np.frombuffer(made, np.uint32).copy()
        return words[:4].tolist(), words[4:]

    return call


@pytest.mark.parametrize(
    "counter, key, answer",
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_random123s_known_answers(philox, counter, key, answer):
    """The vectors of philox4x32 with 10 rounds in Random123's kat_vectors."""
    assert philox(counter, key)[0] == list(answer)


@given(block=st.integers(0, 2**30), step=st.integers(0, 2**32 - 1), seed=st.integers(0, 2**64 - 1))
def test_philox_in_lanes_is_philox(philox, block, step, seed):
    key = (seed & 0xFFFFFFFF, seed >> 32)
    counters = np.array([(block + i, step, 0, 0) for i in range(8)], np.uint32)
    np.testing.assert_array_equal(philox((block, step, 0, 0), key)[1], ref.philox(counters, key).reshape(-1))


# What is refused


@pytest.mark.parametrize(
    "settings, error, words",
    [
        ({"temperature": np.nan}, UsageError, ("temperature", "nan")),
        ({"temperature": np.inf}, UsageError, ("temperature",)),
        ({"temperature": -np.inf}, UsageError, ("temperature",)),
        ({"temperature": [1, 1, np.nan]}, UsageError, ("temperature", "row 2")),
        ({"temperature": "warm"}, DTypeError, ("temperature", "number")),
        ({"temperature": [1, 2]}, ShapeError, ("temperature", "(3,)")),
        ({"temperature": None}, DTypeError, ("temperature",)),
        ({"temperature": True}, DTypeError, ("temperature",)),
        ({"top_k": -1}, UsageError, ("top_k", "at least 0")),
        ({"top_k": 1.5}, DTypeError, ("top_k", "whole")),
        ({"top_p": 0}, UsageError, ("top_p", "above 0 and at most 1")),
        ({"top_p": 1.01}, UsageError, ("top_p",)),
        ({"top_p": np.nan}, UsageError, ("top_p",)),
        ({"top_p": -0.5}, UsageError, ("top_p",)),
        ({"min_p": -0.1}, UsageError, ("min_p", "at least 0 and at most 1")),
        ({"min_p": 1.5}, UsageError, ("min_p",)),
        ({"seed": -1}, UsageError, ("seed",)),
        ({"seed": 2**64}, UsageError, ("seed",)),
        ({"seed": 0.5}, DTypeError, ("seed",)),
        ({"seed": [1, 2]}, ShapeError, ("seed",)),
        ({"step": -1}, UsageError, ("step",)),
        ({"step": 2**32}, UsageError, ("step",)),
    ],
)
def test_impossible_settings_of_gumbel_sample(settings, error, words):
    with pytest.raises(error) as caught:
        ops.gumbel_sample(np.zeros((3, 5), np.float32), **{"temperature": 1.0, "seed": 0, **settings})
    assert all(word in str(caught.value) for word in ("gumbel_sample", *words)) and "\n" not in str(caught.value)


@pytest.mark.parametrize("uniform", [1.0, -0.001, np.nan, np.inf, [0.5, 0.5, 1.0]])
def test_impossible_uniform(uniform):
    with pytest.raises(UsageError, match=r"uniform.*at least 0 and below 1"):
        ops.softmax_sample(np.zeros((3, 5), np.float32), 1.0, uniform)


@pytest.mark.parametrize(
    "logits, error",
    [
        (np.zeros(5, np.float32), ShapeError),
        (np.zeros((0, 5), np.float32), ShapeError),
        (np.zeros((2, 0), np.float32), ShapeError),
        (np.zeros((1, 2, 3), np.float32), ShapeError),
        (np.zeros((2, 5)), DTypeError),
        (np.zeros((2, 5), np.int32), DTypeError),
        (np.zeros((2, 5), np.float16), DTypeError),
        ([["a"]], DTypeError),
    ],
)
def test_impossible_logits(logits, error):
    for call in (lambda: ops.gumbel_sample(logits, 1.0, 0), lambda: ops.softmax_sample(logits, 1.0, 0.5)):
        with pytest.raises(error, match="logits"):
            call()


def test_nothing_to_choose_names_the_row(device):
    logits = np.zeros((4, 9000), np.float32)
    logits[2] = np.nan
    logits[3] = -np.inf
    for call in (
        lambda: ops.gumbel_sample(logits, 1.0, 0, top_k=3, device=device),
        lambda: ops.gumbel_sample(logits, 0, 0, device=device),
        lambda: ops.softmax_sample(logits, 1.0, 0.5, device=device),
    ):
        with pytest.raises(RunError, match="row 2"):
            call()


def test_minus_zero_ties_with_zero():
    """Of the two as logits, top-k keeps the lower index, as of any other equal logits."""
    logits = np.full((16, 40), -1, np.float32)
    logits[:, 3], logits[:, 7] = -0.0, 0.0
    tokens, _ = ops.gumbel_sample(logits, 1.0, np.arange(16), 0, 1)
    assert (tokens == 3).all()
