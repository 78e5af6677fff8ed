"""Recurrent layers against their definition: one sequence at a time, token by token, in float64."""

import numpy as np
import pytest
from support import reference as ref
from support.axes import each
from support.kernels import ELEMENTARY, ROUNDING, activations, assert_close, failing, guarded_chain, run

import pipeline as p
from pipeline.errors import BuildError, ShapeError
from pipeline.graph.steps.recurrent import Part, Spread
from pipeline.graph.tensors import Storage

pytestmark = pytest.mark.one_processor  # there are no native kernels

# A state forgets, and each position corrects what it holds: errors of float32 stay some roundings of what was summed.
BOUND = 64 * ROUNDING

SIZES = [  # key heads, value heads, numbers of a key, of a value, taps; which way the kernel goes
    (2, 6, 32, 48, 4),  # a GPU's: a piece per lane
    (1, 3, 128, 40, 4),  # a processor's: all pieces in registers
    (1, 2, 144, 6, 3),  # a GPU's: two pieces per lane
    (3, 3, 10, 33, 2),  # any length
    (1, 1, 260, 3, 5),  # any length
]


class Case:
    """Three sequences at the slots 2, 0 and 3 of four, whose rows lie in any order. joint: queries, keys, values and
    gates of a key head are one piece of a row, as in Qwen3-Next."""

    def __init__(self, sizes=SIZES[0], joint=False, lengths=(13, 1, 9), seed=0, rows=23):
        rng = np.random.default_rng(seed)
        self.key_heads, self.heads, self.key_dim, self.value_dim, self.width = sizes
        self.joint, self.most, self.lengths = joint, rows, lengths
        self.sharing = self.heads // self.key_heads
        self.channels = 2 * self.key_heads * self.key_dim + self.heads * self.value_dim
        total = sum(lengths)
        self.slots = np.repeat([2, 0, 3], lengths).astype(np.uint32)
        self.positions = np.concatenate([np.arange(n) for n in lengths]).astype(np.uint32)
        self.own = self.sharing * self.value_dim
        group = 2 * self.key_dim + 2 * self.own
        self.x = activations(rng, total, self.key_heads * group if joint else self.channels)
        self.ba = activations(rng, total, 2 * self.heads)
        self.taps, self.bias = activations(rng, self.width, self.channels), activations(rng, self.channels)
        self.slope = -np.exp(activations(rng, self.heads))
        self.shift, self.weight = activations(rng, self.heads), activations(rng, self.value_dim)
        self.parts = ()
        self.group = group if joint else 0
        if joint:
            keys, values = self.key_heads * self.key_dim, self.heads * self.value_dim
            self.parts = (
                Part(keys, self.key_dim, 0),
                Part(keys, self.key_dim, self.key_dim),
                Part(values, self.own, 2 * self.key_dim),
            )
        step = self.sharing if joint else 0
        first = self.sharing if joint else self.heads
        self.beta_at, self.alpha_at = Spread(0, step, 2 * step), Spread(first, step, 2 * step)
        self.states()

    def states(self):
        """New states, which nobody has written."""
        self.taps_state = Storage.empty((4, self.width - 1, self.channels))
        self.state = Storage.empty((4, self.heads, self.value_dim, self.key_dim))

    def steps(self, pipe, x, ba, slots, positions):
        links = pipe.row_links(slots, positions, 4)
        rows = (slots, positions, links)
        taps_state, state = pipe.state("conv_state", self.taps_state), pipe.state("delta_state", self.state)
        mixed = pipe.causal_conv(x, self.taps, taps_state, *rows, self.bias, parts=self.parts, group=self.group)
        spread = {"beta_at": self.beta_at, "alpha_at": self.alpha_at}
        y = pipe.gated_delta(mixed, ba, ba, self.slope, self.shift, state, *rows, self.key_heads, **spread)
        return mixed, y, links

    def inputs(self, index=slice(None)):
        return {name: getattr(self, name)[index] for name in ("x", "ba", "slots", "positions")}

    def run(self, device, runs):
        """(convolved, y) of all rows, which go through in these runs of row numbers, in the order that they name."""
        pipe = p.Pipeline(device, rows=self.most)
        shapes = {name: (self.most, *value.shape[1:]) for name, value in self.inputs().items()}
        dtypes = {"slots": "u32", "positions": "u32"}
        tensors = {name: pipe.input(name, shape, dtypes.get(name, "f32")) for name, shape in shapes.items()}
        chain = pipe.build(self.steps(pipe, **tensors))
        results = [np.empty((len(self.slots), n), np.float32) for n in (self.channels, self.heads * self.value_dim)]
        for index in runs:
            given = {name: np.zeros(shapes[name], value.dtype) for name, value in self.inputs().items()}
            for name, value in self.inputs(index).items():
                given[name][: len(index)] = value
            for result, found in zip(results, chain.run(rows=len(index), **given)):
                result[index] = found[: len(index)]
        return results

    def expected(self):
        """(convolved, y, the last state of each sequence) in float64."""
        channels = [
            part.first + c // part.head * self.group + c % part.head
            for part in self.parts or (Part(self.channels, self.channels, 0),)
            for c in range(part.channels)
        ]
        spread = [(0, 0), (1, 1)] if self.joint else []
        beta, alpha = np.split(self.ba.astype(np.float64), 2, axis=1)
        if spread:
            pairs = self.ba.astype(np.float64).reshape(len(self.ba), self.key_heads, 2, self.sharing)
            beta, alpha = (pairs[:, :, i].reshape(len(self.ba), -1) for i in (0, 1))
        decay = np.exp(self.slope * np.log1p(np.exp(alpha + self.shift)))
        mixed, ys, lasts, first = [], [], [], 0
        for length in self.lengths:
            rows = slice(first, first + length)
            conv = ref.causal_conv(self.x[rows][:, channels], self.taps, self.bias)
            keys = self.key_heads * self.key_dim
            q, k, v = np.split(conv, [keys, 2 * keys], axis=1)
            q, k = (np.repeat(z.reshape(length, self.key_heads, -1), self.sharing, axis=1) for z in (q, k))
            y, states = ref.gated_delta(q, k, v.reshape(length, self.heads, -1), ref.sigmoid(beta[rows]), decay[rows])
            mixed.append(conv)
            ys.append(y.reshape(length, -1))
            lasts.append(states[-1])
            first += length
        return np.concatenate(mixed), np.concatenate(ys), lasts


def cuts(case, seed=0):
    """Ways in which the rows may go through: all at once in any order; sevens, token by token, mixed."""
    rng, total = np.random.default_rng(seed), len(case.slots)
    order = np.argsort(case.positions, kind="stable")  # the sequences take turns
    return {
        "all": [rng.permutation(total)],
        "sevens": [np.arange(i, min(i + 7, total)) for i in range(0, total, 7)],
        "mixed": [rng.permutation(part) for part in np.array_split(order, 5)],
        "one by one": [[i] for i in range(total)],
    }


@each("sizes, joint", SIZES, [True, False])
def test_against_the_definition(device, sizes, joint):
    """In one piece, in sevens, token by token, with the rows of several sequences in one run: the same bits, and the
    same states."""
    case, first = Case(sizes, joint), None
    mixed, y, lasts = case.expected()
    for name, runs in cuts(case).items():
        case.states()
        found = case.run(device, runs)
        states = [storage.read(device)[[2, 0, 3]] for storage in (case.taps_state, case.state)]
        if first is None:
            first = [*found, states[1]]
            assert_close(found[0], mixed, BOUND * (1 + np.abs(mixed)))
            assert_close(found[1], y, BOUND * np.abs(y).max())
            assert_close(states[1], np.stack(lasts), BOUND * np.abs(lasts).max())
        for a, b in zip([*found, states[1]], first):
            assert a.tobytes() == b.tobytes(), name
        assert np.isfinite(states[0][0]).all()  # the longest sequence has had all inputs


def test_value_heads_that_take_turns(device):
    """Head h goes with key head h % key_heads: the bits of the same heads in the other order."""
    rng, (keys, heads, key_dim, value_dim, rows) = np.random.default_rng(5), (2, 6, 32, 16, 5)
    turns = np.arange(heads).reshape(keys, -1).T.reshape(-1)
    shared, values = activations(rng, rows, 2 * keys * key_dim), activations(rng, rows, heads, value_dim)
    beta, alpha = (activations(rng, rows, heads) for _ in range(2))
    slope, shift = -np.exp(activations(rng, heads)), activations(rng, heads)

    def result(order, tiled):
        def steps(pipe, x, beta, alpha, slots, positions):
            state = pipe.state("delta_state", Storage.zeros((1, heads, value_dim, key_dim), "f32"))
            at = slots, positions, pipe.row_links(slots, positions, 1)
            vectors = slope[order], shift[order]
            return pipe.gated_delta(x, beta, alpha, *vectors, state, *at, keys, tiled=tiled)

        x = np.concatenate([shared, values[:, order].reshape(rows, -1)], axis=1)
        places = {"slots": np.zeros(rows, np.uint32), "positions": np.arange(rows, dtype=np.uint32)}
        y = run(device, rows, steps, x=x, beta=beta[:, order], alpha=alpha[:, order], **places)
        return y.reshape(rows, heads, value_dim)

    assert (result(turns, True) == result(np.arange(heads), False)[:, turns]).all()


def test_a_slot_is_used_again(device):
    """The row of position 0 begins with nothing, whatever is in the slot; other slots keep what they have."""
    case = Case()
    first = case.run(device, cuts(case)["sevens"])
    again = case.run(device, [np.arange(13, 23), np.arange(13)])
    assert all((a == b).all() for a, b in zip(first, again))


def test_rows_that_do_not_fit(device):
    """A slot without a state, a position twice, a position that is missed: those rows fail, and no others; nothing else
    is written."""
    case = Case(lengths=(5, 2, 5))
    case.slots[case.slots == 0] = 4
    case.positions[2] = 1
    case.positions[10] = 7
    chain = guarded_chain(device, 12, case.steps, spare=2, **case.inputs())
    failed = failing(chain, **case.inputs())
    assert set(failed) == {2, 3, 4, 5, 6, 10, 11} and all("row_links was given" in why for why in failed.values())
    y = chain.view(chain.plan.outputs[1])
    assert (y[list(failed)] == 0).all()
    alone = Case(lengths=(5, 2, 5))
    good = alone.run(device, [np.arange(12)])[1]
    assert (y[[0, 1, 7, 8, 9]] == good[[0, 1, 7, 8, 9]]).all()


SCANS = [  # heads, groups, numbers of a head, of the state
    (6, 2, 48, 32),
    (3, 3, 33, 128),
    (2, 1, 6, 144),
    (4, 2, 5, 10),
]


@each("sizes", SCANS)
def test_scan(device, sizes):
    """Mamba-2, in one piece in any order and in pieces: the same bits, near the definition."""
    heads, groups, dim, states = sizes
    rng, total = np.random.default_rng(0), 17
    x, dt = activations(rng, total, heads * dim + 2 * groups * states), activations(rng, total, heads + 3)
    slope, shift, skip = -np.exp(activations(rng, heads)), activations(rng, heads), activations(rng, heads)
    slots, positions = np.repeat([1, 0], [12, 5]).astype(np.uint32), np.r_[:12, :5].astype(np.uint32)
    found = []
    for runs in ([rng.permutation(total)], [np.r_[:7], np.r_[7:9, 12:15], np.r_[9:12, 15:17]]):
        kept, y = Storage.empty((2, heads, dim, states)), np.empty((total, heads * dim), np.float32)

        def steps(pipe, x, dt, slots, positions, kept=kept):
            links = pipe.row_links(slots, positions, 2)
            state = pipe.state("ssm_state", kept)
            rows = (slots, positions, links)
            return pipe.ssm_scan(x, dt, slope, shift, skip, state, *rows, groups, dt_first=3, limits=(0.1, 2.0))

        for index in runs:
            inputs = {"x": x[index], "dt": dt[index], "slots": slots[index], "positions": positions[index]}
            y[index] = run(device, len(index), steps, **inputs)
        found.append((y.tobytes(), kept.read(device).tobytes()))
    assert found[0] == found[1]
    limited = np.clip(np.log1p(np.exp(dt[:, 3:].astype(np.float64) + shift)), 0.1, 2.0)
    for slot, rows in ((1, slice(0, 12)), (0, slice(12, 17))):
        parts = np.split(x[rows].astype(np.float64), [heads * dim, heads * dim + groups * states], axis=1)
        b, c = (np.repeat(part.reshape(-1, groups, states), heads // groups, axis=1) for part in parts[1:])
        expected, state = ref.ssm_scan(parts[0].reshape(-1, heads, dim), b, c, limited[rows], slope, skip)
        assert_close(y[rows], expected.reshape(len(expected), -1), BOUND * np.abs(expected).max())
        assert_close(kept.read(device)[slot], state, BOUND * np.abs(state).max())


@each("heads, dim, group", [1, 5, 9], [3, 48, 260], [1, 3])
def test_gated_norm(device, heads, dim, group):
    rng = np.random.default_rng(0)
    heads *= group
    x, weight = activations(rng, 3, heads * dim), activations(rng, dim)
    gate = activations(rng, 3, heads * dim + 7 * heads // group)
    at = Spread(7, group, group * dim + 7)
    found = run(device, 3, lambda pipe, x, gate: pipe.gated_norm(x, weight, gate, 1e-6, gate_at=at), x=x, gate=gate)
    gates = gate.reshape(3, heads // group, -1)[:, :, 7:].reshape(3, heads, dim).astype(np.float64)
    expected = ref.rms_norm(x.reshape(3, heads, dim), weight, 1e-6) * ref.silu(gates)
    assert_close(found.reshape(expected.shape), expected, ELEMENTARY * np.abs(expected))


@each("heads, dim", [1, 5], [3, 48, 260])
def test_sigmoid_gate(device, heads, dim):
    rng = np.random.default_rng(0)
    x, gate = activations(rng, 3, heads * dim), activations(rng, 3, heads * 2 * dim)
    found = run(
        device, 3, lambda pipe, x, gate: pipe.sigmoid_gate(x, gate, heads, first=dim, step=2 * dim), x=x, gate=gate
    )
    expected = x.astype(np.float64).reshape(3, heads, dim) * ref.sigmoid(gate.reshape(3, heads, 2, dim)[:, :, 1])
    assert_close(found.reshape(expected.shape), expected, ELEMENTARY * np.abs(expected))


@each("heads, dim", [1, 4], [3, 48, 260])
def test_a_norm_of_gated_inputs(device, heads, dim):
    """Mamba-2's, with weights of its own for each head."""
    rng = np.random.default_rng(0)
    x, weight, gate = (activations(rng, *shape) for shape in ((3, heads * dim), (heads * dim,), (3, heads * dim)))
    found = run(
        device,
        3,
        lambda pipe, x, gate: pipe.gated_norm(x, weight, gate, heads=heads, gates_inputs=True),
        x=x,
        gate=gate,
    )
    gated = (x * ref.silu(gate.astype(np.float64))).reshape(3, heads, dim)
    expected = ref.rms_norm(gated, None, 1e-6) * weight.reshape(heads, dim)
    assert_close(found.reshape(expected.shape), expected, ELEMENTARY * np.abs(expected))


def test_product(device):
    """Of two parts of one row, as LFM2 multiplies them."""
    x = activations(np.random.default_rng(0), 3, 30)
    found = run(device, 3, lambda pipe, x: pipe.product(x, x, 10, y_first=20), x=x)
    assert (found == x[:, :10] * x[:, 20:]).all()


def test_shapes_are_checked():
    case = Case(joint=True)
    pipe = p.Pipeline(rows=23)
    x, ba = pipe.input("x", case.x.shape), pipe.input("ba", case.ba.shape)
    slots, positions = (pipe.input(name, (23,), "u32") for name in ("slots", "positions"))
    links = pipe.row_links(slots, positions, 4)
    rows = (slots, positions, links)
    state, delta = pipe.state("conv_state", case.taps_state), pipe.state("delta_state", case.state)
    with pytest.raises(ShapeError, match="does not lie in x"):
        pipe.causal_conv(x, case.taps, state, *rows, parts=case.parts, group=2 * case.group)
    with pytest.raises(ShapeError, match="no parts of"):
        pipe.causal_conv(x, case.taps, state, *rows, parts=case.parts[:2], group=case.group)
    with pytest.raises(ShapeError, match="conv_state has shape"):
        pipe.causal_conv(x, case.taps[1:], state, *rows, parts=case.parts, group=case.group)
    mixed = pipe.causal_conv(x, case.taps, state, *rows, parts=case.parts, group=case.group)
    with pytest.raises(ShapeError, match="do not lie in ba"):
        pipe.gated_delta(mixed, ba, ba, case.slope, case.shift, delta, *rows, 2, beta_at=Spread(1), alpha_at=Spread(7))
    with pytest.raises(ShapeError, match="6 value heads do not divide over 4"):
        pipe.gated_delta(mixed, ba, ba, case.slope, case.shift, delta, *rows, 4)
    with pytest.raises(BuildError, match="must be f32"):
        whole = pipe.state("half", Storage.empty(case.state.shape, "f16"))
        pipe.gated_delta(mixed, ba, ba, case.slope, case.shift, whole, *rows, 2)
