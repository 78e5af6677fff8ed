"""Indices that kernels read from memory: slots, positions, pairs, tokens. One that there is not touches no memory."""

import numpy as np
import pytest
from support import caches
from support.kernels import activations, failing, guarded_chain, matrix, run

import pipeline as p
from pipeline.errors import RunError
from pipeline.graph.formats import CACHE_DTYPES
from pipeline.graph.steps.sampling import Penalties

HEADS, KV_HEADS, DIM, CONTEXT, SLOTS, RANK = 4, 2, 32, 64, 3, 32
LAST = 2**32 - 1
OUTSIDE = [(SLOTS, 3), (7, 3), (LAST, 3), (0, CONTEXT), (0, CONTEXT + 100), (0, LAST), (LAST, LAST)]
NOWHERE = "was given a slot, a position or a block that its cache does not have"


def uints(*values):
    return np.array(values, np.uint32)


class Attending:
    """Heads to caches of a type, then attention to them, for rows of random numbers."""

    def __init__(self, rows, dtype, window=0):
        rng = np.random.default_rng(rows)
        self.dtype, self.window = dtype, window
        self.inputs = {
            "q": activations(rng, rows, HEADS * DIM),
            "k": activations(rng, rows, KV_HEADS * DIM),
            "v": activations(rng, rows, KV_HEADS * DIM),
        }

    def __call__(self, pipe, q, k, v, slots, positions):
        self.table = caches.scattered(SLOTS, CONTEXT)
        kept = caches.zeros(SLOTS, KV_HEADS, CONTEXT, (DIM, DIM), self.dtype, self.table)
        self.caches = caches.states(pipe, kept)
        q = pipe.heads_to_cache(q, k, v, None, None, None, slots, positions, *self.caches, window=self.window)
        return pipe.attention(q, *self.caches, slots, positions, window=self.window)


@pytest.mark.parametrize("dtype", CACHE_DTYPES)
@pytest.mark.parametrize("slot, position", OUTSIDE)
def test_a_place_outside_the_caches_fails_its_row(device, slot, position, dtype):
    attending = Attending(3, dtype)
    places = {"slots": uints(1, slot, 2), "positions": uints(0, position, 0)}
    made = guarded_chain(device, 3, attending, **attending.inputs, **places)
    views = [made.view(cache) for cache in attending.caches[:2] if dtype != "q8"]
    failed = failing(made, **attending.inputs, **places)
    assert failed == {1: f"heads_to_cache {NOWHERE}"}
    [y] = (made.view(output) for output in made.plan.outputs)
    inside = {"slots": uints(1, 0, 2), "positions": uints(0, 0, 0)}
    expected = run(device, 3, attending, **attending.inputs, **inside)
    np.testing.assert_array_equal(y[[0, 2]], expected[[0, 2]])
    assert (y[1] == 0).all()
    for cache in (caches.positions_of(view, attending.table) for view in views):
        assert cache[1:, :, 0].all() and not cache[0].any() and not cache[:, :, 1:].any()
    with pytest.raises(RunError, match=f"^pipeline, row 1: heads_to_cache {NOWHERE}$"):
        made.check_status()


@pytest.mark.parametrize(
    "slot, position, fails", [(SLOTS, 3, True), (LAST, 0, True), (2, 1000, False), (2, LAST, False)]
)
def test_a_ring_has_every_position(device, slot, position, fails):
    attending = Attending(2, "f16", window=5)
    places = {"slots": uints(slot, 0), "positions": uints(position, 0)}
    made = guarded_chain(device, 2, attending, **attending.inputs, **places)
    assert list(failing(made, **attending.inputs, **places)) == [0] * fails


@pytest.mark.parametrize("slot, position", OUTSIDE)
def test_attention_alone_fails_the_row(device, slot, position):
    """Many rows of one sequence go through together: the one outside is left out, wherever it stands."""
    rng = np.random.default_rng(0)
    keys, values = (activations(rng, SLOTS, KV_HEADS, CONTEXT, DIM) for _ in range(2))
    q = activations(rng, 9, HEADS, DIM)

    def steps(pipe, q, slots, positions):
        return pipe.attention(q, *caches.states(pipe, caches.storages(keys, values)), slots, positions)

    slots, positions = np.ones(9, np.uint32), np.arange(7, 16, dtype=np.uint32)
    expected = run(device, 9, steps, q=q, slots=slots, positions=positions)
    for row in (0, 4, 8):
        places = {"slots": slots.copy(), "positions": positions.copy()}
        places["slots"][row], places["positions"][row] = slot, position
        made = guarded_chain(device, 9, steps, q=q, **places)
        assert failing(made, q=q, **places) == {row: f"attention {NOWHERE}"}
        [y] = (made.view(output) for output in made.plan.outputs)
        others = np.arange(9) != row
        np.testing.assert_array_equal(y[others], expected[others])
        assert (y[row] == 0).all()


@pytest.mark.parametrize("dtype", CACHE_DTYPES)
@pytest.mark.parametrize("slot, position", OUTSIDE)
def test_latent_attention_fails_the_row(device, slot, position, dtype):
    rng = np.random.default_rng(0)
    inputs = {"q": activations(rng, 2, HEADS * 2 * DIM), "kv": activations(rng, 2, RANK + DIM)}
    table, made_of, blocks = activations(rng, 2, 2, DIM // 2), [], caches.scattered(SLOTS, CONTEXT)

    def steps(pipe, q, kv, table, slots, positions):
        made_of[:] = caches.states(pipe, caches.zeros(SLOTS, 1, CONTEXT, [RANK + DIM], dtype, blocks))
        norm = np.ones(RANK, np.float32)
        return pipe.latent_to_cache(q, kv, norm, table, slots, positions, *made_of, heads=HEADS)

    inputs |= {"table": table, "slots": uints(0, slot), "positions": uints(5, position)}
    made = guarded_chain(device, 2, steps, **inputs)
    assert failing(made, **inputs) == {1: f"latent_to_cache {NOWHERE}"}
    cache = caches.positions_of(made.view(made_of[0]), blocks)
    cache[0, 0, 5] = 0
    assert not cache.any()


@pytest.mark.parametrize(
    "slot, position, biases, fails",
    [(0, 2, 1, False), (0, LAST, 1, False), (0, 9, LAST, False), (2, 0, 1, True), (LAST, LAST, LAST, True)],
)
def test_penalties_stay_within_history_and_biases(device, slot, position, biases, fails):
    vocab, rng = 40, np.random.default_rng(0)
    settings = np.concatenate(
        [np.array([[1.5, 0.5, 0.25]] * 2, np.float32).view(np.uint32), np.zeros((2, 3), np.uint32)], 1
    )
    settings[0, 5], settings[1, 5] = 1, biases
    inputs = {
        "logits": activations(rng, 2, vocab),
        "temperature": np.zeros(2, np.float32),
        "seeds": np.zeros((2, 2), np.uint32),
        "tokens": uints(3, 4),
        "positions": uints(1, position),
        "settings": settings,
        "ids": np.full((2, 1), LAST, np.uint32),
        "values": np.ones((2, 1), np.float32),
        "slots": uints(1, slot),
    }

    def steps(pipe, logits, temperature, seeds, tokens, positions, settings, ids, values, slots):
        penalties = Penalties(settings, ids, values, pipe.state("history", p.Storage.zeros((2, 8), "u32")), slots)
        return pipe.sample(logits, temperature, seeds, tokens, positions, False, penalties=penalties)

    made = guarded_chain(device, 2, steps, **inputs)
    assert list(failing(made, **inputs)) == [1] * fails


@pytest.mark.parametrize("format", ["f32", "q4_bf16"])
def test_lists_of_pairs_stay_within_the_rows(device, format):
    """The kernels that go by expert, given lists that no sort made."""
    rng, (experts, hidden, dim, rows, top_k) = np.random.default_rng(0), (3, 64, 64, 3, 2)
    gate, up, down = (p.Pipeline(rows=1).weight(matrix(rng, (experts, hidden, dim), format)[0], n) for n in "gud")
    wild = {
        "pairs": uints(1, 3, LAST, 2, 4, 0),
        "offsets": uints(0, 2, 2, 10**6),
    }  # groups apart, as racing is no fault here

    def steps(pipe, x, pairs, offsets):
        constants = {"rows": rows, "experts": experts, "top_k": top_k, "inputs": dim, "outputs": hidden}
        constants |= {"group_size": gate.group_size, "step": 0, "dense": 0, "activation": 0, "bias": 0}
        constants |= {"expert_rows": hidden, "row_step": 1}
        inner, z = (pipe.scratch(name, (rows * top_k, hidden)) for name in ("inner", "z"))
        reads = (*gate.parts, *up.parts, x, pairs, offsets, x, x)
        pipe.add("up", f"experts_gate_up_grouped_{format}", reads, (inner,), constants, columns=4, height=experts)
        reads = (*down.parts, inner, pairs, offsets, x)
        pipe.add("down", f"experts_down_grouped_{format}", reads, (z,), constants, columns=4, height=experts)
        return z

    x = activations(rng, rows, dim)
    made = guarded_chain(device, rows, steps, x=x, **wild)
    for name, value in {"x": x, **wild}.items():
        made.view(made.plan.inputs[name])[:] = value
    made.commit().wait()
    made.check_guards()


def test_a_token_outside_the_vocabulary_reads_nothing(device):
    weight, tokens = np.ones((5, 8), np.float32), uints(4, 5, LAST)
    made = guarded_chain(device, 3, lambda pipe, tokens: pipe.embed(tokens, weight), tokens=tokens)
    y = made.run(tokens=tokens)
    made.check_guards()
    assert y.tolist() == [[1.0] * 8, [0.0] * 8, [0.0] * 8]
