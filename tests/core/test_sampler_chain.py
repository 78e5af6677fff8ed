"""The sampler chain: penalties, filters and log-probabilities of each row, as a step, in generation and on
the command line."""

import json

import numpy as np
import pytest
from support import reference as ref
from support.axes import each

import pipeline as p
from pipeline import _core
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.errors import BuildError, UsageError
from pipeline.generation.sampler import Features, Sampler
from pipeline.generation.settings import RANGES, Sampling
from pipeline.graph.transfers import Writes
from pipeline.run import main

# No kernel of the sampler is native.
pytestmark = pytest.mark.one_processor
INF, NAN = np.inf, np.nan
LOGPROB = 1e-5


class Row:
    """What one row is given: logits, what came before, settings."""

    def __init__(self, logits, prompt, text=(), temperature=0.0, seed=0, **settings):
        self.logits, self.prompt, self.text = np.asarray(logits, np.float32), list(prompt), list(text)
        self.temperature, self.seed, self.settings = temperature, seed, Sampling(**settings)

    def oracle(self):
        s = self.settings
        return ref.penalised(
            self.logits,
            self.prompt,
            self.text,
            s.logit_bias,
            s.repetition_penalty,
            s.repetition_window,
            s.presence_penalty,
            s.frequency_penalty,
        )


def sample(device, rows, features=None, finite=False):
    """(tokens, logprobs, top): one step of a chain that has what the rows use, or `features`."""
    from pipeline.models.row_state import Rows

    count, vocab, context = len(rows), len(rows[0].logits), 64
    state = Rows.zeros(count)
    sampler = Sampler(features or Features.of(row.settings for row in rows), count, count + 1, context)
    pipe = p.Pipeline(device, rows=count)
    chain = pipe.build(sampler.add(pipe, pipe.input("logits", (count, vocab)), state, finite=finite))
    with Writes(device) as writes:
        for i, row in enumerate(rows):
            everything = [*row.prompt, *row.text]
            slot = count - i  # not the row's own number
            writes.add(state.tokens, everything[-1], i)
            writes.add(state.positions, len(everything) - 1, i)
            writes.add(state.slots, slot, i)
            writes.add(state.temperatures, row.temperature, i)
            writes.add(state.seeds, (row.seed, 0), i)
            sampler.seat(writes, i, row.settings, row.prompt, len(row.prompt), slot)
            if sampler.features.penalties:
                writes.add(sampler._history, everything[:-1], slot)  # the last one the step puts there
    outputs = chain.run(logits=np.stack([row.logits for row in rows]))
    result, *top = outputs if isinstance(outputs, tuple) else (outputs,)
    return result[:, 0], result[:, 1].copy().view(np.float32), top[0] if top else None


def logits_of(vocab, seed=0):
    return (np.random.default_rng((seed, vocab)).normal(size=vocab) * 3).astype(np.float32)


PENALTIES = [
    {"repetition_penalty": 1.5},
    {"repetition_penalty": 0.5},
    {"repetition_penalty": 2.0, "repetition_window": 2},
    {"presence_penalty": 4.0},
    {"frequency_penalty": 3.0},
    {"frequency_penalty": -3.0},
    {"logit_bias": {3: 5.0, 4: -INF}},
    {"repetition_penalty": 1.3, "presence_penalty": 1.0, "frequency_penalty": 1.0, "logit_bias": {0: -2.0, 9: 30.0}},
]


# Penalties


@each("settings, vocab", PENALTIES, [12, 4096, 20_000])
def test_penalties_are_the_oracles(device, settings, vocab):
    """Of tokens that are likely, so that they decide; the log-probability is that of the unchanged logits."""
    logits = logits_of(vocab)
    best = np.argsort(-logits)[:8].tolist()
    histories = [
        ([best[0]], []),
        ([best[1], best[0], best[0]], []),
        ([5, best[0]], [best[1], best[1], best[0]]),
        ([best[0], best[1], 7], [best[2], 7, best[3], best[2]]),
    ]
    rows = [Row(logits, prompt, text, **settings) for prompt, text in histories]
    tokens, logprobs, _ = sample(device, rows)
    assert tokens.tolist() == [int(row.oracle().argmax()) for row in rows]
    np.testing.assert_allclose(logprobs, ref.log_softmax(logits)[tokens], atol=LOGPROB)


def test_penalised_draws_follow_the_penalised_softmax(processor):
    logits, prompt, text = logits_of(12), [1, 2, 2], [3, 3, 3, 4]
    settings = {"repetition_penalty": 1.4, "presence_penalty": 0.3, "frequency_penalty": 0.2, "logit_bias": {7: 1.5}}
    rows = [Row(logits, prompt, text, 0.8, seed, **settings) for seed in range(3000)]
    tokens, _, _ = sample(processor, rows)
    assert ref.chi_square_z(np.bincount(tokens, minlength=12), ref.softmax(rows[0].oracle() / 0.8)) < 3.09


def test_bias_comes_before_the_repetition_penalty(device):
    """A logit of 1 with a bias of -3 is negative when it is penalised: -4, below -3.5."""
    row = Row([1, -3.5, -9], [0], logit_bias={0: -3.0}, repetition_penalty=2.0)
    assert sample(device, [row])[0][0] == 1
    row = Row([1, -2.1, -9], [0], logit_bias={0: -3.0})
    assert sample(device, [row])[0][0] == 0


def test_filters_see_penalised_logits(device):
    row = [5, 4, 3, 2, 1]
    rows = [Row(row, [4], temperature=9.0, seed=seed, top_k=2, logit_bias={0: -INF}) for seed in range(30)]
    assert set(sample(device, rows)[0].tolist()) == {1, 2}


def test_a_window_counts_from_the_current_token(device):
    logits = [4, 3, 2, 1]
    for window, wanted in ((1, 0), (2, 0), (3, 1), (0, 1)):
        assert (
            sample(device, [Row(logits, [0, 3, 3], repetition_penalty=4.0, repetition_window=window)])[0][0] == wanted
        )


def test_presence_and_frequency_are_of_the_text_only(device):
    rows = [Row([4, 3, 2, 1], [0, 0, 0], presence_penalty=9.0), Row([4, 3, 2, 1], [3], [0], presence_penalty=9.0)]
    assert sample(device, rows)[0].tolist() == [0, 1]


@pytest.mark.parametrize("odd", [NAN, INF, -INF])
def test_penalties_of_odd_logits(device, odd):
    logits = np.array([odd, 1, 2, 0], np.float32)
    settings = {"repetition_penalty": 1.5, "frequency_penalty": 1.0, "logit_bias": {0: 3.0}}
    tokens, _, _ = sample(device, [Row(logits, [3], [0, 0], temperature, **settings) for temperature in (0.0, 1.0)])
    assert (tokens == 0).all() if odd == INF else (tokens != 0).all()


@pytest.mark.parametrize(
    "settings", [{"top_k": 2}, {"logprobs": 1}, {"logit_bias": {0: -INF}}, {"presence_penalty": 9.0}]
)
def test_infinity_of_a_model_is_a_failure(device, settings):
    """Whatever changes or limits the logits afterwards."""
    rows = [Row(logits, [3], [0], 1.0, **settings) for logits in ([INF, 1, 2, 0], [0, 1, 2, 0])]
    tokens, _, _ = sample(device, rows, finite=True)
    assert tokens[0] == _core.NONE and tokens[1] < 4


def test_a_row_whose_tokens_are_all_forbidden_fails(device):
    rows = [Row([1, 2], [0], logit_bias={0: -INF, 1: -INF}), Row([1, 2], [0], logit_bias={1: -INF})]
    tokens, logprobs, _ = sample(device, rows)
    assert tokens.tolist() == [_core.NONE, 0] and logprobs.view(np.uint32)[0] == 1


# Log-probabilities


@each("vocab, count", [3, 64, 500, 20_000], [1, 5, 64])
def test_top_logprobs(device, vocab, count):
    rows = [
        Row(np.round(logits_of(vocab, seed) * 2) / 2, [1], logprobs=count, repetition_penalty=repetition)
        for seed, repetition in ((0, 1.0), (1, 2.0))
    ]
    _, _, top = sample(device, rows)
    for row, (ids, bits) in zip(rows, np.moveaxis(top, 2, 1)):
        wanted = np.argsort(-row.logits, kind="stable")[:count]  # of the unchanged logits, lower index first
        assert ids[: len(wanted)].tolist() == wanted.tolist() and (ids[len(wanted) :] == _core.NONE).all()
        logprobs = bits.copy().view(np.float32)[: len(wanted)]
        np.testing.assert_allclose(logprobs, ref.log_softmax(row.logits)[wanted], atol=LOGPROB)


def test_top_logprobs_leave_out_what_is_no_number(device):
    row = Row([NAN, 1, -INF, 3, NAN, 1], [1], logprobs=5)
    _, _, top = sample(device, [row])
    assert top[0, :, 0].tolist() == [3, 1, 5, _core.NONE, _core.NONE]


# Rows side by side, and what a chain is made of


def mixed(vocab):
    logits = [logits_of(vocab, seed) for seed in range(9)]
    settings = [
        {},
        {"top_k": 7},
        {"top_p": 0.8, "logprobs": 2},
        {"repetition_penalty": 1.6},
        {"min_p": 0.05, "presence_penalty": 2.0},
        {"logit_bias": {1: 4.0}, "top_k": 3, "top_p": 0.9},
        {"frequency_penalty": 1.5, "repetition_window": 2},
        {"top_k": 1},
        {},
    ]
    temperatures = [0.7, 1.0, 1.3, 0.0, 0.9, 2.0, 0.0, 1.0, 0.0]
    best = [np.argsort(-row)[:3].tolist() for row in logits]
    return [
        Row(row, [5, a, b], [c, a], temperature, seed, **own)
        for seed, (row, own, temperature, (a, b, c)) in enumerate(zip(logits, settings, temperatures, best))
    ]


@pytest.mark.parametrize("vocab", [100, 20_000])
def test_a_row_is_as_if_alone_in_a_chain_of_its_own(device, vocab):
    """Beside others it goes through steps that its own chain has not."""
    rows = mixed(vocab)
    tokens, logprobs, _ = sample(device, rows)
    for i, row in enumerate(rows):
        alone = sample(device, [row])
        assert (alone[0][0], alone[1][0]) == (tokens[i], logprobs[i])
    back = sample(device, rows[::-1])
    assert back[0][::-1].tolist() == tokens.tolist() and back[1][::-1].tobytes() == logprobs.tobytes()


KERNELS = {
    (): ["sample"],
    ("filters",): ["logits_part", "filter_limit", "draw_part", "sample_merge"],
    ("penalties",): ["logits_part", "penalty_copy", "penalty_apply", "logits_part", "draw_part", "sample_merge"],
    ("logprobs",): ["logits_part", "top_logprobs", "draw_part", "sample_merge"],
}


@pytest.mark.parametrize("features, kernels", KERNELS.items())
@pytest.mark.parametrize("vocab", [4096, 20_000])
def test_a_chain_has_only_what_is_used(features, kernels, vocab):
    from pipeline.models.row_state import Rows

    if vocab > 8192 and not features:
        kernels = ["sample_part", "sample_merge"]
    device = p.open_device("cpu", threads=2)
    pipe = p.Pipeline(device, rows=2)
    logits = pipe.input("logits", (2, vocab))
    Sampler(Features(**dict.fromkeys(features, 1)), 2, 2, 8).add(pipe, logits, Rows.zeros(2))
    assert [dispatch.kernel for dispatch in pipe.dispatches] == ["clear_status", *kernels]


def test_features_are_what_rows_use():
    rows = [Sampling(), Sampling(top_p=0.5), Sampling(logit_bias={1: 1.0, 2: 2.0}), Sampling(logprobs=3)]
    assert Features.of(rows) == Features(True, True, 2, 3)
    assert Features.of([Sampling(), Sampling(top_k=0, top_p=1.0, min_p=0)]) == Features()
    assert Features.of([Sampling(repetition_window=9)]) == Features()


def test_a_row_without_penalties_is_not_copied(device):
    """In a chain with penalties, rows that use none leave the copy and the history as they are."""
    from pipeline.models.row_state import Rows

    state, features = Rows.zeros(2), Features(penalties=True)
    sampler = Sampler(features, 2, 2, 8)
    pipe = p.Pipeline(device, rows=2)
    outputs = sampler.add(pipe, pipe.input("logits", (2, 50)), state)
    adjusted = next(
        tensor for dispatch in pipe.dispatches if dispatch.kernel == "penalty_copy" for tensor in dispatch.writes
    )
    chain = pipe.build((*outputs, adjusted))
    chain.view(adjusted)[:] = 7
    state.slots.write(device, [0, 1])
    with Writes(device) as writes:
        sampler.seat(writes, 0, Sampling(), [1], 1, 0)
        sampler.seat(writes, 1, Sampling(repetition_penalty=2.0), [1], 1, 1)
    _, copy = chain.run(logits=np.ones((2, 50), np.float32))
    assert (copy[0] == 7).all() and (copy[1] != 7).all()


@pytest.mark.parametrize(
    "broken, message",
    [
        ({"filters": (3, 3)}, "expected"),
        ({"tokens": None}, "no tokens"),
        ({"logprobs": 65}, "0 to 64"),
        ({"logprobs": -1}, "0 to 64"),
    ],
)
def test_what_does_not_fit_is_refused_when_built(broken, message):
    pipe = p.Pipeline("cpu", rows=2)
    arguments = {
        "logits": pipe.input("l", (2, 9)),
        "temperature": pipe.input("t", (2,)),
        "seeds": pipe.input("s", (2, 2), "u32"),
        "tokens": pipe.input("i", (2,), "u32"),
        "positions": pipe.input("p", (2,), "u32"),
    }
    if "filters" in broken:
        broken = {"filters": pipe.input("f", broken["filters"], "u32")}
    with pytest.raises(BuildError, match=message):
        pipe.sample(**{**arguments, **broken})


def test_runs_committed_ahead_leave_their_results_apart(device):
    """Each copy of a chain has outputs of its own; the rest it shares, so runs go on from one another."""
    from pipeline.models.row_state import Rows

    results = []
    for ahead in (True, False):
        state, features = Rows.zeros(2), Features(logprobs=2)
        pipe = p.Pipeline(device, rows=2)
        sampler = Sampler(features, 2, 2, 8)
        chain = pipe.build(sampler.add(pipe, pipe.input("logits", (2, 50)), state), copies=2)
        state.temperatures.write(device, [5, 5])
        chain._give({"logits": np.stack([logits_of(50, seed) for seed in (1, 2)])})
        runs = [chain.commit(2, 0)]
        if not ahead:
            runs.pop().wait()
        runs.append(chain.commit(2, 1))
        for run in runs:
            run.wait()
        assert state.positions.read(device).tolist() == [2, 2]
        results.append([chain.view(output, copy).tolist() for copy in (0, 1) for output in chain.plan.outputs])
    assert results[0] == results[1]
    assert results[0][0] != results[0][2] and results[0][1] == results[0][3]  # two draws from the same logits


# Settings


@pytest.mark.parametrize(
    "name, values",
    [
        ("top_k", (-1, 1.5, True, NAN, "5", None)),
        ("top_p", (0, -0.1, 1.1, NAN, INF, "x", None)),
        ("min_p", (-0.1, 1.1, NAN, "x")),
        ("repetition_penalty", (0, -1, NAN, INF, "x")),
        ("repetition_window", (-1, 0.5)),
        ("presence_penalty", (NAN, INF, "x")),
        ("frequency_penalty", (NAN, -INF)),
        ("logprobs", (-1, 65, 1.0)),
        ("logit_bias", ([1], {"1": 1.0}, {-1: 1.0}, {1.5: 1.0}, {1: NAN}, {1: INF}, {1: "x"})),
    ],
)
def test_impossible_settings(name, values):
    for value in values:
        with pytest.raises(UsageError, match=name) as caught:
            Sampling(**{name: value})
        assert "\n" not in str(caught.value)
        assert name == "logit_bias" or str(RANGES[name]) in str(caught.value)


# Generation


@pytest.fixture(scope="module")
def model():
    model = p.load_model(p.open_checkpoint(builtin_model()))
    model.end_tokens = ()
    return model


PROMPT = (0, 819, 779, 259, 592, 12)
SETTINGS = [
    Sampling(),
    Sampling(top_k=40, top_p=0.9),
    Sampling(repetition_penalty=1.3, repetition_window=64),
    Sampling(frequency_penalty=0.5, logprobs=3),
    Sampling(min_p=0.1, logit_bias={5: -INF, 12: 2.0}),
    Sampling(top_k=1),
    Sampling(presence_penalty=1.0),
]


def generate(model, requests, batch_size):
    generator = p.Generator(model, batch_size=batch_size)
    events = list(generator.run(requests))
    return {event.index: event for event in events if type(event).__name__ in ("Finished", "Failed")}, events, generator


def test_generation_alone_in_a_batch_and_in_another_order(model):
    requests = [p.Request(i, PROMPT, 24, 0.8, 100 + i, settings) for i, settings in enumerate(SETTINGS)]
    batch, _, generator = generate(model, requests, 7)
    assert generator.stats.command_buffers == generator.stats.decode_steps == 24
    assert generator.stats.readback_bytes == generator.stats.decode_tokens * (8 + 3 * 8)
    others = generate(model, requests[::-1], 3)[0]
    for request in requests:
        alone, _, generator = generate(model, [request], 1)
        assert batch[request.index] == others[request.index] == alone[request.index]
        assert generator.stats.readback_bytes == 24 * 8 * (1 + request.sampling.logprobs)


def test_generation_penalises_what_it_generated(model):
    plain = generate(model, [p.Request(0, PROMPT, 30)], 1)[0][0].tokens
    assert len(set(plain)) < 30  # or this would show nothing
    banned = generate(model, [p.Request(0, PROMPT, 30, 0.0, 0, Sampling(presence_penalty=1e9))], 1)[0][0].tokens
    assert len(set(banned)) == 30
    never = generate(model, [p.Request(0, PROMPT, 30, 0.0, 0, Sampling(repetition_penalty=1e9))], 1)[0][0].tokens
    assert not set(never) & set(PROMPT) and len(set(never)) == 30


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_penalties_after_a_stop_start_afresh(model, monkeypatch, batch_size):
    """A step in vain adds to the history of a slot that the next text then takes."""
    settings = [
        Sampling(presence_penalty=3.0, logprobs=2),
        Sampling(repetition_penalty=1.7),
        Sampling(frequency_penalty=2.0),
    ]
    requests = [p.Request(i, PROMPT, 20, 0.9, i, settings[i % 3]) for i in range(9)]
    whole = {i: end.tokens for i, end in generate(model, requests, 1)[0].items()}
    stops = {whole[0][3], whole[4][7]}
    monkeypatch.setattr(model, "end_tokens", tuple(stops))
    ends = generate(model, requests, batch_size)[0]
    assert {end.reason for end in ends.values()} == {"stop", "length"}
    for i, tokens in whole.items():
        assert ends[i].tokens == tokens[: next((at for at, token in enumerate(tokens) if token in stops), 20)]
        assert len(ends[i].top) == (0 if i % 3 else len(ends[i].tokens))


def test_top_k_of_one_is_greedy(model):
    greedy = generate(model, [p.Request(0, PROMPT, 20)], 1)[0][0]
    top = generate(model, [p.Request(0, PROMPT, 20, 5.0, 3, Sampling(top_k=1))], 1)[0][0]
    assert greedy.tokens == top.tokens and greedy.logprobs == top.logprobs


def test_logprobs_come_with_each_token(model):
    request = p.Request(0, PROMPT, 6, 0.0, 0, Sampling(logprobs=4))
    finished, events, _ = generate(model, [request], 1)
    tokens = [event for event in events if type(event).__name__ == "Token"]
    assert [event.top for event in tokens] == finished[0].top and len(finished[0].top) == 6
    for event in tokens:
        assert event.top[0] == (event.token, event.logprob) and len(event.top) == 4
        assert sorted((value for _, value in event.top), reverse=True) == [value for _, value in event.top]


def test_the_chain_follows_the_requests(model):
    """Built anew for what a run's requests use, and for nothing else."""
    generator = p.Generator(model, batch_size=2, sampling=Sampling(top_k=3))
    assert "filter_limit" in generator.explain() and "penalty" not in generator.explain()
    first = [event for event in generator.run([p.Request(0, PROMPT, 5, 1.0, 1)])][-1]
    assert "filter_limit" not in generator.explain()
    list(generator.run([p.Request(0, PROMPT, 5, 1.0, 1, Sampling(frequency_penalty=0.5))]))
    assert "penalty_apply" in generator.explain() and "filter_limit" not in generator.explain()
    assert [event for event in generator.run([p.Request(0, PROMPT, 5, 1.0, 1)])][-1] == first


def test_a_bias_outside_the_vocabulary_fails_its_row(model):
    requests = [p.Request(0, PROMPT, 3, sampling=Sampling(logit_bias={10**6: 1.0})), p.Request(1, PROMPT, 3)]
    ended, _, _ = generate(model, requests, 2)
    assert "logit_bias" in ended[0].error and "1000000" in ended[0].error and len(ended[1].tokens) == 3


def test_forbidding_every_token_fails_the_row_with_the_steps_name(model):
    settings = Sampling(logit_bias=dict.fromkeys(range(model.vocab_size), -INF))
    ended, _, _ = generate(model, [p.Request(0, PROMPT, 3, sampling=settings), p.Request(1, PROMPT, 3)], 2)
    assert ended[0].error.startswith("sample had nothing to choose from") and len(ended[1].tokens) == 3


# The command line


def run(capsys, tmp_path, *arguments, lines=None):
    """(exit code, rows of --out, standard error)."""
    out = tmp_path / "rows.jsonl"
    if lines is not None:
        (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        arguments = ("--prompts", str(tmp_path / "prompts.jsonl"), *arguments)
    code = main([*arguments, "--out", str(out), "--max-tokens", "8", "--device", "auto"])
    rows = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    return code, rows, capsys.readouterr().err


def test_settings_of_a_line_hold_for_its_prompt(capsys, tmp_path):
    lines = [
        {"prompt": "The fox"},
        {"prompt": "The fox", "top_k": 1},
        {"prompt": "The fox", "temperature": 0, "logprobs": 2},
        {"prompt": "The fox", "seed": 7, "repetition_penalty": 2, "logit_bias": {"14": -INF}},
        {"prompt": "The fox", "seed": 7, "repetition_penalty": 2, "logit_bias": {"14": -INF}, "top_p": None},
    ]
    code, rows, _ = run(capsys, tmp_path, "--temperature", "1.2", "--seed", "3", "--batch-size", "5", lines=lines)
    assert code == 0
    assert rows[1]["tokens"] == rows[2]["tokens"] != rows[0]["tokens"]  # both greedy
    assert rows[3]["tokens"] == rows[4]["tokens"] and 14 not in rows[3]["tokens"]  # one seed, used as it is
    assert "top_logprobs" not in rows[0]
    for token, logprob, top in zip(rows[2]["tokens"], rows[2]["logprobs"], rows[2]["top_logprobs"], strict=True):
        assert top[0] == [token, logprob] and len(top) == 2


def test_options_hold_for_every_row(capsys, tmp_path):
    lines = [{"prompt": "The fox"}, {"prompt": "A dog", "logprobs": 1}]
    options = [
        "--temperature",
        "0.9",
        "--top-k",
        "30",
        "--top-p",
        "0.9",
        "--min-p",
        "0.01",
        "--repetition-penalty",
        "1.1",
        "--repetition-window",
        "16",
        "--presence-penalty",
        "0.2",
        "--frequency-penalty",
        "0.1",
        "--logit-bias",
        "14:-inf,12:0.5",
        "--logprobs",
        "3",
        "--seed",
        "5",
    ]
    code, rows, _ = run(capsys, tmp_path, *options, lines=lines)
    assert code == 0 and [len(row["top_logprobs"][0]) for row in rows] == [3, 1]
    assert all(14 not in row["tokens"] for row in rows)
    again = run(capsys, tmp_path, *options, "--batch-size", "2", lines=lines)[1]
    assert again == rows


@pytest.mark.parametrize(
    "line, words",
    [
        ({"top_k": -1}, "top_k -1"),
        ({"top_p": 0}, "top_p 0"),
        ({"top_p": "high"}, "top_p 'high'"),
        ({"min_p": 2}, "min_p 2"),
        ({"temperature": NAN}, "temperature nan"),
        ({"seed": -3}, "seed -3"),
        ({"seed": 1.5}, "seed 1.5"),
        ({"logprobs": 65}, "logprobs 65"),
        ({"repetition_penalty": 0}, "repetition_penalty 0"),
        ({"frequency_penalty": INF}, "frequency_penalty inf"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": [1]}, "logit_bias"),
        ({"logit_bias": {"999999": 1}}, "999999"),
    ],
)
def test_an_impossible_setting_fails_its_line(capsys, tmp_path, line, words):
    code, rows, err = run(capsys, tmp_path, lines=[{"prompt": "The fox"}, {"prompt": "The fox", **line}])
    assert code == 1 and rows[0]["tokens"] and words in rows[1]["error"] and "line 2" in err


@pytest.mark.parametrize(
    "option, value",
    [
        ("--top-k", "-1"),
        ("--top-p", "0"),
        ("--min-p", "-0.1"),
        ("--repetition-penalty", "0"),
        ("--repetition-window", "-1"),
        ("--presence-penalty", "nan"),
        ("--frequency-penalty", "x"),
        ("--logit-bias", "5"),
        ("--logit-bias", "5:x"),
        ("--logit-bias", "-5:1"),
        ("--logit-bias", "5:nan"),
        ("--logit-bias", "999999:1"),
        ("--logprobs", "65"),
    ],
)
def test_an_impossible_option_runs_nothing(capsys, tmp_path, option, value):
    code, rows, err = run(capsys, tmp_path, "--prompt", "The fox", f"{option}={value}")
    assert code == 2 and not rows and len(err.strip().splitlines()) == 1
    assert option in err or "logit_bias" in err
