"""From logits to a token and its log-probability: argmax, and Gumbel-max draws from counted random bits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import reference as ref
from support.axes import axis, each
from support.kernels import ELEMENTARY, ROUNDING, activations, assert_close

import pipeline as p
from pipeline.errors import RunError
from pipeline.graph.tensors import Storage, as_storage

pytestmark = pytest.mark.one_processor  # no step here has native kernels

VOCABS = (1, 17, 4096, 5003)
INF, NAN = np.inf, np.nan

# log(Σ exp): the sum of V terms in a fixed order, its log, and the difference to the largest logit.
LOGPROB = 64 * ROUNDING

# The draw compares logit / T + noise in f32. Where the oracle's best two are closer than this share of their size
# the device may take either; such rows are left out, and the tests demand that they are few.
NEAR_TIE = 1e-4


class Sampler:
    """A chain of the sample step alone, and its state."""

    def __init__(self, device, rows, vocab, advance=False, finite=False):
        self.pipe = pipe = p.Pipeline(device, rows=rows)
        self.logits = pipe.input("logits", (rows, vocab))
        self.state = {
            name: Storage.zeros(shape, dtype)
            for name, shape, dtype in (
                ("temperatures", (rows,), "f32"),
                ("seeds", (rows, 2), "u32"),
                ("tokens", (rows,), "u32"),
                ("positions", (rows,), "u32"),
            )
        }
        tensors = [pipe.state(name, storage) for name, storage in self.state.items()]
        self.chain = pipe.build(pipe.sample(self.logits, *tensors, advance=advance, finite=finite))

    def __call__(self, logits, temperatures=0.0, seeds=(0, 0), positions=0, rows=0):
        for name, value in (("temperatures", temperatures), ("seeds", seeds), ("positions", positions)):
            storage = self.state[name]
            storage.write(self.pipe.device, np.broadcast_to(value, storage.shape))
        result = self.chain.run(logits=np.asarray(logits, np.float32), rows=rows)
        return result[:, 0], result[:, 1].copy().view(np.float32)

    def read(self, name):
        return self.state[name].read(self.pipe.device).tolist()


def sample(device, logits, *args, **kwargs):
    logits = np.atleast_2d(np.asarray(logits, np.float32))
    return Sampler(device, *logits.shape)(logits, *args, **kwargs)


# The same at 2²⁴ terms, a lane of 2²⁰ after one another.
LOGPROB_OF_MILLIONS = 2.0**-11


def check_logprobs(tokens, logprobs, logits, bound=LOGPROB):
    logits = np.atleast_2d(np.asarray(logits, np.float64))
    wanted = ref.log_softmax(np.where(np.isnan(logits), -INF, logits))[np.arange(len(tokens)), tokens]
    assert_close(logprobs, wanted, bound + ELEMENTARY * np.abs(wanted))


# Greedy


@each("vocab, rows", VOCABS, [1, 3, 9])
def test_argmax(device, rows, vocab):
    logits = activations(np.random.default_rng(vocab), rows, vocab) * 5
    tokens, logprobs = sample(device, logits)
    np.testing.assert_array_equal(tokens, logits.argmax(-1))
    check_logprobs(tokens, logprobs, logits)


@given(
    vocab=st.integers(1, 700),
    levels=st.sampled_from([1, 3, 1000]),
    shift=st.sampled_from([0, -1e4, 1e4]),
    seed=st.integers(0, 1000),
)
def test_argmax_of_any_size(device, vocab, levels, shift, seed):
    rng = np.random.default_rng(seed)
    logits = (np.round(rng.normal(size=(3, vocab)) * levels) / 4 + shift).astype(np.float32)
    tokens, logprobs = sample(device, logits)
    np.testing.assert_array_equal(tokens, logits.argmax(-1))  # NumPy's argmax gives the lower index too
    check_logprobs(tokens, logprobs, logits)


@pytest.mark.parametrize("vocab", [33, 20_000])  # of one part, and of several
def test_infinity_of_a_model_is_a_failure(device, vocab):
    logits = activations(np.random.default_rng(1), 3, vocab)
    logits[1, vocab - 2], logits[2, 5] = INF, -INF
    for temperature in (0.0, 1.0):
        tokens, logprobs = Sampler(device, 3, vocab, finite=True)(logits, temperature)
        assert tokens[1] == ref.NONE and logprobs.view(np.uint32)[1] == 1
        assert tokens[0] < vocab and tokens[2] < vocab and tokens[2] != 5


@pytest.mark.parametrize("logprobs", [0, 3])
@pytest.mark.parametrize("vocab", [33, 20_000])  # of one part, and of several
def test_a_token_that_is_given_is_not_drawn(device, vocab, logprobs):
    """It has its own log-probability, whatever the settings; rows beside it draw as they do alone."""
    rng = np.random.default_rng(vocab)
    logits = activations(rng, 6, vocab) * 4
    given = np.array([ref.NONE, 0, vocab - 1, ref.NONE, vocab // 2, vocab], np.uint32)
    pipe = p.Pipeline(device, rows=6)
    state = [
        pipe.state(name, as_storage(values))
        for name, values in (
            ("temperatures", np.array([0, 0, 0, 0.8, 0.8, 0], np.float32)),
            ("seeds", rng.integers(0, 2**32, (6, 2), dtype=np.uint32)),
            ("tokens", np.zeros(6, np.uint32)),
            ("positions", np.arange(6, dtype=np.uint32)),
        )
    ]
    x, results = pipe.input("logits", (6, vocab)), []
    for number, tensor in enumerate((pipe.state("given", as_storage(given)), None)):
        result = pipe.sample(x, *state, advance=False, name=f"sample{number}", logprobs=logprobs, given=tensor)
        results.append(result[0] if logprobs else result)
    with_given, drawn = pipe.build(results).run(logits=logits)
    np.testing.assert_array_equal(with_given[[0, 3]], drawn[[0, 3]])
    np.testing.assert_array_equal(with_given[[1, 2, 4], 0], given[[1, 2, 4]])
    check_logprobs(given[[1, 2, 4]], with_given[[1, 2, 4], 1].view(np.float32), logits[[1, 2, 4]])
    assert with_given[5, 0] == ref.NONE  # it is not in the vocabulary


@pytest.mark.parametrize("bad", [NAN, -INF])
def test_what_is_no_number_is_not_chosen(device, bad):
    logits = activations(np.random.default_rng(1), 4, 4096)
    logits[:, 1::3] = bad
    logits[3, :-1] = bad
    for temperature in (0.0, 0.5, 3.0):
        tokens, logprobs = sample(device, logits, temperature, seeds=np.arange(8).reshape(4, 2))
        assert tokens[3] == 4095 and logprobs[3] == 0
        assert np.isfinite(logits[np.arange(4), tokens]).all()
        check_logprobs(tokens, logprobs, logits)


def test_infinity_is_chosen(device):
    logits = np.zeros((2, 33), np.float32)
    logits[0, 20], logits[1, 7], logits[1, 30] = INF, INF, INF
    for temperature in (0.0, 1.0):
        tokens, logprobs = sample(device, logits, temperature)
        assert tokens[0] == 20 and logprobs[0] == 0
        assert tokens[1] in (7, 30) and logprobs[1] == np.float32(-np.log(2))
    assert sample(device, logits)[0][1] == 7


NOTHING = {"minus_inf": [-INF] * 33, "nan": [NAN] * 33, "both": [NAN, -INF] * 9}


@each("temperature, logits", [0.0, 1.0], NOTHING)
def test_nothing_to_choose_is_a_status(device, temperature, logits):
    logits = NOTHING[logits]
    rows = np.stack([np.arange(len(logits))] * 3).astype(np.float32)
    rows[1] = logits
    run = Sampler(device, 3, len(logits))
    tokens, logprobs = run(rows, temperature)
    assert tokens[1] == ref.NONE and logprobs.view(np.uint32)[1] == 1  # the first step that can fail
    assert run.chain.failure(1).startswith("sample had nothing to choose from")
    assert (tokens[[0, 2]] < len(logits)).all()


def test_an_earlier_failure_is_passed_on(device):
    """The 8 bytes of a row name the first step that failed, even where the logits are good."""
    pipe = p.Pipeline(device, rows=2)
    state = [
        pipe.state(name, Storage.zeros(shape, dtype))
        for name, shape, dtype in (
            ("t", (2,), "f32"),
            ("s", (2, 2), "u32"),
            ("tokens", (2,), "u32"),
            ("positions", (2,), "u32"),
        )
    ]
    router = pipe.input("router", (2, 6))
    pipe.fused_moe_routing(router, 2, name="layers.5.route")
    chain = pipe.build(pipe.sample(pipe.input("logits", (2, 9)), *state))
    router = np.zeros((2, 6), np.float32)
    router[1] = NAN
    with pytest.raises(RunError, match=r"row 1: layers\.5\.route"):
        chain.run(router=router, logits=np.ones((2, 9), np.float32))
    result = chain.view(chain.plan.outputs[0])
    assert result[0, 0] == 0 and result[1].tolist() == [ref.NONE, 1]


def test_advance_makes_the_next_input(device):
    logits = activations(np.random.default_rng(2), 3, 33)
    run = Sampler(device, 3, 33, advance=True)
    tokens, _ = run(logits, positions=[5, 0, 9], rows=2)
    assert run.read("tokens") == [*tokens[:2], 0] and run.read("positions") == [6, 1, 9]
    still = Sampler(device, 3, 33, advance=False)
    still(logits, positions=[5, 0, 9])
    assert still.read("tokens") == [0, 0, 0] and still.read("positions") == [5, 0, 9]


# Draws


def oracle_draw(logits, temperature, seed, position):
    """(token, how far ahead of the runner-up, as a share of their size)."""
    logits = np.asarray(logits, np.float64)
    perturbed = (logits - logits.max()) / temperature + ref.gumbel_noise(len(logits), position, seed)
    best = perturbed.argmax()
    rest = np.delete(perturbed, best).max(initial=-INF)
    return best, (perturbed[best] - rest) / max(1, abs(perturbed[best]))


# On the checker up to the smallest of two parts, of 8,192 logits each.
@each("vocab, temperature", axis([*VOCABS, 8193, 20011], (1, 17, 5003, 8193)), [0.05, 0.3, 1.0, 2.5])
def test_draws_are_the_oracles(device, vocab, temperature):
    rng = np.random.default_rng(vocab)
    rows = 8 if device.name == "checker" else 32
    logits = activations(rng, rows, vocab) * 3
    seeds = rng.integers(0, 2**32, (rows, 2), np.uint32)
    positions = rng.integers(0, 2**32, rows, np.uint32)
    tokens, logprobs = sample(device, logits, temperature, seeds, positions)
    check_logprobs(tokens, logprobs, logits)
    wanted = [oracle_draw(logits[row], temperature, seeds[row], positions[row]) for row in range(rows)]
    clear = [row for row in range(rows) if wanted[row][1] > NEAR_TIE]
    assert len(clear) >= rows - 2
    assert [int(tokens[row]) for row in clear] == [int(wanted[row][0]) for row in clear]


def test_philox_is_philox():
    """Random123's known answers, of the oracle that the draws are held against."""
    assert ref.philox(np.zeros(4, np.uint32), (0, 0)).tolist() == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    full = np.full(4, 0xFFFFFFFF, np.uint32)
    assert ref.philox(full, full[:2]).tolist() == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    pi = np.array([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], np.uint32)
    assert ref.philox(pi, (0xA4093822, 0x299F31D0)).tolist() == [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]


def draws(device, logits, temperature, count, rows=500):
    """How often each token of one distribution is drawn, over seeds and positions."""
    logits = np.asarray(logits, np.float32)
    run, counts = Sampler(device, rows, len(logits)), np.zeros(len(logits), int)
    for first in range(0, count, rows):
        index = np.arange(first, first + rows)
        seeds = np.stack([index % 97, np.zeros_like(index)], -1)
        tokens, _ = run(np.tile(logits, (rows, 1)), temperature, seeds, index)
        counts += np.bincount(tokens, minlength=len(logits))
    return counts


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_softmax(processor, temperature):
    logits = np.array([2.0, 1.0, 0.0, -1.0, 0.5, 0.5, 1.5, -2.0, 0.0, 2.0])
    count = 20000
    expected = ref.softmax(logits / temperature) * count
    chi_square = ((draws(processor, logits, temperature, count) - expected) ** 2 / expected).sum()
    assert chi_square < 33.7  # 9 degrees of freedom: exceeded with a probability of 10⁻⁴


def test_draws_of_a_flat_vocabulary_are_flat(processor):
    """Each word of a counter's four, the last ones that share a counter with nothing included."""
    count = 20000
    chi_square = ((draws(processor, np.zeros(7), 1.0, count) - count / 7) ** 2 / (count / 7)).sum()
    assert chi_square < 27.9  # 6 degrees of freedom: 10⁻⁴


def test_seed_and_position_each_decide(device):
    logits = np.zeros((1, 4096), np.float32)
    first = sample(device, logits, 1.0, (1, 2), 3)[0][0]
    assert sample(device, logits, 1.0, (1, 2), 3)[0][0] == first
    others = [sample(device, logits, 1.0, *args)[0][0] for args in (((2, 2), 3), ((1, 3), 3), ((1, 2), 4), ((0, 2), 3))]
    assert all(other != first for other in others) and len(set(others)) == len(others)


# Vocabularies of many parts


def test_masked_tokens_behind_a_large_vocabulary_are_never_drawn(device):
    """On the checker there are three parts, of which the last one is masked to its end."""
    vocab, used = (20_000, 16_500) if device.name == "checker" else (151_936, 151_643)
    logits = np.zeros((4, vocab), np.float32)
    logits[:, used:] = -INF
    tokens, logprobs = sample(device, logits, 1.0, np.arange(8).reshape(4, 2))
    assert (tokens < used).all() and len(set(tokens.tolist())) == 4
    check_logprobs(tokens, logprobs, logits)


def test_counts_and_indices_beyond_what_a_float_counts(processor):
    """2²⁴ + 3 logits: f32 would make the count and the last index even."""
    vocab = 2**24 + 3
    logits = np.zeros((1, vocab), np.float32)
    logits[0, -1] = 20
    run = Sampler(processor, 1, vocab)
    tokens, logprobs = run(logits)
    assert tokens[0] == vocab - 1
    check_logprobs(tokens, logprobs, logits, LOGPROB_OF_MILLIONS)
    logits[0, -1], logits[0, -3] = 0, 20
    assert run(logits)[0][0] == vocab - 3


# Temperatures


@pytest.mark.parametrize("temperature", [1e-30, 1e-40, 1e-45])
def test_equal_maxima_are_a_draw_between_them_at_the_least_temperature(device, temperature):
    logits = activations(np.random.default_rng(17), 9, 4096)
    logits[:, 100] = logits[:, 4000] = 9
    tokens, logprobs = sample(device, logits, temperature, np.arange(18).reshape(9, 2))
    assert set(tokens.tolist()) == {100, 4000}
    check_logprobs(tokens, logprobs, logits)


def test_an_infinite_temperature_draws_evenly(device):
    logits = np.tile(np.array([0, 50, -50, 1], np.float32), (400, 1))
    tokens, _ = sample(device, logits, INF, np.arange(800).reshape(400, 2))
    counts = np.bincount(tokens, minlength=4)
    assert ((counts - 100) ** 2 / 100).sum() < 21.1  # 3 degrees of freedom: 10⁻⁴
