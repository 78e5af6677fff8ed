"""All steps of a forward pass in one chain: a row does not depend on its company or its place."""

import numpy as np
import pytest
from support import caches
from support.axes import axis, each, pairs
from support.kernels import activations, alone, as_tuple, chain, guarded_run, matrix, run, stored, with_one_thread

from pipeline.errors import RunError
from pipeline.graph.steps.sampling import Penalties
from pipeline.graph.tensors import Storage

SLOTS, VOCAB = 12, 9


def forward(pipe, x, tokens, slots, positions, temperatures, seeds):
    """A small model's worth of steps over x [R, 64]: (activations, 8 bytes a row)."""
    rng = np.random.default_rng(0)
    kept = caches.states(pipe, caches.zeros(SLOTS, 2, 16, (16, 16), "f16"))
    norms = [stored(rng.normal(size=n), "bf16")[0] for n in (64, 16, 16)]
    y = pipe.embed(tokens, matrix(rng, (VOCAB, 64), "q8_f32")[0])
    x, h = pipe.fused_residual_norm(x, y, norms[0])
    q, k, v = pipe.linear3(h, [matrix(rng, (n, 64), "q4_bf16")[0] for n in (64, 32, 32)], "qkv")
    table = pipe.rope_table(positions, rng.random(8).astype(np.float32))
    q = pipe.heads_to_cache(q, k, v, norms[1], norms[2], table, slots, positions, *kept)
    a = pipe.attention(q, *kept, slots, positions)
    ids, weights = pipe.moe_router(a, matrix(rng, (12, 64), "f16")[0], 3)
    experts = [matrix(rng, shape, "bf16")[0] for shape in ((12, 40, 64), (12, 40, 64), (12, 64, 40))]
    y = pipe.experts(pipe.rms_norm(a), ids, weights, *experts)
    logits = pipe.linear(pipe.rms_norm(y), matrix(rng, (VOCAB, 64), "q4_f16")[0])
    next_tokens, next_positions = (pipe.state(name, Storage.zeros((pipe.rows,), "u32")) for name in ("t", "p"))
    return y, pipe.sample(logits, temperatures, seeds, next_tokens, next_positions, advance=False)


def inputs(rows):
    rng = np.random.default_rng(rows)
    return {
        "x": activations(rng, rows, 64),
        "tokens": rng.integers(0, VOCAB, rows).astype(np.uint32),
        "slots": rng.permutation(SLOTS)[:rows].astype(np.uint32),
        "positions": np.arange(rows, dtype=np.uint32),
        "temperatures": (np.arange(rows) % 3 * 0.7).astype(np.float32),
        "seeds": rng.integers(0, 2**32, (rows, 2), np.uint32),
    }


@pytest.mark.parametrize("rows", [2, 5, 9])
def test_a_row_is_the_same_alone_and_with_others(device, rows):
    given = inputs(rows)
    together = run(device, rows, forward, **given)
    for row in range(rows):
        for one, all in zip(alone(device, forward, row, **given), together):
            assert one[0].tobytes() == all[row].tobytes()


def test_a_row_is_the_same_at_every_place(device):
    given, order = inputs(9), np.random.default_rng(1).permutation(9)
    together = run(device, 9, forward, **given)
    shuffled = run(device, 9, forward, **{name: value[order] for name, value in given.items()})
    for a, b in zip(together, shuffled):
        assert a[order].tobytes() == b.tobytes()


@pytest.mark.parametrize("used", [1, 4, 6])
def test_a_row_is_the_same_in_a_run_of_fewer(device, used):
    given = inputs(9)
    made = chain(device, 9, forward, **given)
    all_rows = made.run(**given)
    spoiled = {name: value.copy() for name, value in given.items()}
    spoiled["x"][used:] = np.nan  # what was not asked for has no say, and its failure is none
    for a, b in zip(made.run(rows=used, **spoiled), all_rows):
        assert a[:used].tobytes() == b[:used].tobytes()


def assert_one_thread_gives_the_same(two, rows, steps, given):
    results = (as_tuple(run(device, rows, steps, **given)) for device in (two, with_one_thread(two)))
    for a, b in zip(*results, strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.one_processor
def test_one_thread_and_two_give_the_same(processor):
    assert_one_thread_gives_the_same(processor, 9, forward, inputs(9))


@pytest.mark.one_processor
@pytest.mark.parametrize("cache", ["f32", "f16", "q8"])
def test_one_thread_and_two_fill_the_same_cache(processor, cache):
    """The heads of rows that are spread over threads, of attention and of latent attention; and what was routed."""
    rng = np.random.default_rng(2)
    norms = [np.abs(activations(rng, 32)) for _ in range(3)]
    inv_freq, kv_b = rng.random(16).astype(np.float32), activations(rng, 2 * (32 + 8), 32)

    def steps(pipe, q, k, v, slots, positions):
        kept = caches.states(pipe, caches.zeros(SLOTS, 2, 16, (32, 32), cache))
        rows = caches.states(pipe, caches.zeros(SLOTS, 1, 16, [64], cache))
        table = pipe.rope_table(positions, inv_freq)
        turned = pipe.heads_to_cache(q, k, v, *norms[:2], table, slots, positions, *kept)
        compressed = pipe.latent_to_cache(q, k, norms[2], table, slots, positions, *rows, heads=2)
        y = pipe.latent_attention(q, compressed, kv_b, *rows, slots, positions, 0.1, v_dim=8)
        return turned, compressed, y, *pipe.scored_moe_routing(q, 8, groups=4, top_groups=2), *kept[:2], rows[0]

    given = inputs(9)
    heads = {"q": activations(rng, 9, 128), "k": activations(rng, 9, 64), "v": activations(rng, 9, 64)}
    given = heads | {name: given[name] for name in ("slots", "positions")}
    assert_one_thread_gives_the_same(processor, 9, steps, given)


def test_a_spoiled_row_fails_alone(device):
    given = inputs(5)
    good = run(device, 5, forward, **given)
    given["x"][3] = np.nan
    made = chain(device, 5, forward, **given)
    with pytest.raises(RunError, match="pipeline, row 3: router"):
        made.run(**given)
    for output, wanted in zip((made.view(output) for output in made.plan.outputs), good):
        for row in (0, 1, 2, 4):
            assert output[row].tobytes() == wanted[row].tobytes()


@each("rows, spare", [1, 3, 5], [0, 1, 3])
def test_nothing_outside_is_read_or_written(device, rows, spare):
    """Every value between guards; and with threadgroups beyond the last row, which must do nothing (hazard 9)."""
    given = inputs(rows)
    for a, b in zip(guarded_run(device, rows, forward, spare, **given), run(device, rows, forward, **given)):
        assert a.tobytes() == b.tobytes()


# Sampling beyond one part: every kernel of it


def floats_as_words(*values):
    return np.array(values, np.float32).view(np.uint32)


SAMPLING = ("plain", "filters", "penalties", "logprobs", "shared", "inverse_cdf")


def sampling(kind, rows, vocab):
    """(steps, inputs) of one way to sample."""
    rng = np.random.default_rng(rows)
    given = {
        "logits": activations(rng, 1 if kind == "shared" else rows, vocab) * 3,
        "temperature": rng.random(rows).astype(np.float32),
        "positions": np.arange(rows, dtype=np.uint32) + 4,
    }
    if kind == "inverse_cdf":
        return (
            lambda pipe, logits, temperature, positions, uniform: pipe.softmax_sample(logits, temperature, uniform),
            {**given, "uniform": rng.random(rows).astype(np.float32)},
        )
    given["seeds"] = rng.integers(0, 2**32, (rows, 2), np.uint32)
    given["filters"] = np.stack([[50, *floats_as_words(0.9, 0.01)]] * rows).astype(np.uint32)
    given["penalties"] = np.stack([[*floats_as_words(1.3, 0.5, 0.2), 3, 2, 1]] * rows).astype(np.uint32)
    given |= {
        "bias_ids": np.full((rows, 1), vocab - 1, np.uint32),
        "bias_values": np.full((rows, 1), 5, np.float32),
        "slots": np.arange(rows, dtype=np.uint32),
    }

    def steps(pipe, logits, temperature, positions, seeds, filters, penalties, bias_ids, bias_values, slots):
        tokens = pipe.state("tokens", Storage.of(np.full(rows, vocab - 1, np.uint32)))
        history = pipe.state("history", Storage.of(np.full((rows, 9), vocab - 1, np.uint32)))
        changes = Penalties(penalties, bias_ids, bias_values, history, slots)
        return pipe.sample(
            logits,
            temperature,
            seeds,
            tokens,
            positions,
            False,
            filters=filters if kind == "filters" else None,
            penalties=changes if kind == "penalties" else None,
            logprobs=7 * (kind == "logprobs"),
        )

    return steps, given


@pytest.mark.one_processor
@pytest.mark.parametrize("kind", SAMPLING)
def test_one_thread_and_two_sample_the_same(processor, kind):
    assert_one_thread_gives_the_same(processor, 9, *sampling(kind, 9, 20_000))


@pytest.mark.one_processor
@pairs("kind, vocab, spare", SAMPLING, axis([1, 63, 4096, 4097, 9001], daily=[1, 4097, 9001]), [2, 0])
def test_sampling_reads_and_writes_nothing_outside(device, kind, vocab, spare):
    steps, given = sampling(kind, 3, vocab)
    results = zip(as_tuple(guarded_run(device, 3, steps, spare, **given)), as_tuple(run(device, 3, steps, **given)))
    for guarded, plain in results:
        assert guarded.tobytes() == plain.tobytes()
        assert (plain.reshape(3, -1)[:, 0] < vocab).all()
