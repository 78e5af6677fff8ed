"""A run's rows on workers, without Ray: what goes to them, what comes back, and what becomes of those that die."""

import json
import pickle
import re
from types import SimpleNamespace

import pytest
from support.crews import LocalHand
from support.programs import finish, refuse, rows_of, run, start

from pipeline import __version__
from pipeline import run as program
from pipeline.checkpoints.opening import open_checkpoint
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.cli.record import model_digest
from pipeline.errors import RunError, UsageError
from pipeline.generation.requests import Failed, Finished, Request
from pipeline.generation.settings import Sampling
from pipeline.generation.stopping import watch
from pipeline.language.grammars import Grammars
from pipeline.ray import cluster, crew, engine
from pipeline.ray.orders import Order, Room, Setup, Size
from pipeline.ray.worker import Worker

BATCH = 2


def setup(**changes):
    model = builtin_model()
    with open_checkpoint(model) as checkpoint:
        digest = model_digest(model, checkpoint.files)
    return Setup(
        **(dict(model="storyteller", version=__version__, digest=digest, device="cpu") | changes),
        threads=1,
        cpus=0,
        isa=None,
    )


def made_crew(*hands, notes=None):
    notes = [] if notes is None else notes
    made = crew.Crew([(f"machine {number}", hand) for number, hand in enumerate(hands)], notes.append)
    made.load()
    made.prepare(Room(Size(BATCH, 64), Size(BATCH, 64), "f16", 64, Sampling()))
    return made


@pytest.fixture(autouse=True)
def no_rest(monkeypatch):
    monkeypatch.setattr(crew, "REST_SECONDS", 0.01)


@pytest.fixture(scope="module")
def storyteller():
    with open_checkpoint(builtin_model()) as checkpoint:
        yield checkpoint


def orders(count, tokens=8):
    return [Order.of(Request(index, (5 + index, 7), tokens, 0.8, seed=index)) for index in range(count)]


def answers(made, asked):
    return {answer.end.index: answer.end for answer in made.run(asked) if answer is not None}


def alone(count):
    """The same texts by a worker to which nothing happens."""
    made = made_crew(LocalHand(setup()))
    return {index: end.tokens for index, end in answers(made, orders(count)).items()}


def test_an_order_is_the_request(storyteller):
    """With its stop strings and its grammar, for another process."""
    tokenizer = storyteller.tokenizer()
    sampling = Sampling(top_k=5, logit_bias={3: -1.5}, prompt_logprobs=2)
    request = Request(7, (4, 5), 9, 0.5, 2**64 - 1, sampling, watch(tokenizer, (" the",), (4, 5)), 2)
    sent = pickle.loads(pickle.dumps(Order.of(request)))
    again = sent.made(tokenizer, SimpleNamespace())
    assert (sent.stops, sent.after) == ((" the",), (4, 5)) and again.ends.stops == request.ends.stops
    assert [getattr(again, name) for name in ("index", "tokens", "seed", "sampling", "score_from")] == [
        7, (4, 5), 2**64 - 1, sampling, 2,
    ]  # fmt: skip
    with pytest.raises(UsageError, match="own process alone"):
        Order.of(Request(0, (1,), 1, ends=lambda token: False))


def test_a_grammar_goes_along(storyteller):
    pytest.importorskip("llguidance")
    tokenizer = storyteller.tokenizer()
    grammars = Grammars(tokenizer, tokenizer.vocab_size, storyteller.end_tokens)
    order = Order.of(Request(0, (4, 5), 20, grammar=grammars.compiled("choice", ["fox", "owl"])))
    assert order.guide == ("choice", ["fox", "owl"])
    (end,) = answers(made_crew(LocalHand(setup())), [pickle.loads(pickle.dumps(order))]).values()
    assert tokenizer.decode(end.tokens, (4, 5)).strip() in ("fox", "owl")
    (end,) = answers(made_crew(LocalHand(setup())), [Order(order.request, guide=("regex", "(("))]).values()
    assert isinstance(end, Failed) and "regex" in end.error


def test_rows_of_a_dead_worker_run_elsewhere():
    """With the tokens that they would have had; no worker has more on its way than keeps it busy."""
    notes, hands = [], [LocalHand(setup()), LocalHand(setup())]
    made, ends = made_crew(*hands, notes=notes), {}
    for answer in made.run(iter(orders(30))):
        if answer is not None:
            ends[answer.end.index] = answer.end.tokens
            if len(ends) == 6:
                hands[1].die()
    assert ends == alone(30) and len(hands[0].answered) > 3
    assert notes == ["the worker on machine 1 died; the rows that it had run again"]
    assert max(hand.most for hand in hands) <= crew.AHEAD * (BATCH + 1) + 1  # and one that gets ready
    counts, stats = made.expert_counts(), made.stats
    assert counts.shape[0] > 1 and counts.sum() > 0
    assert stats.generated_tokens >= sum(map(len, ends.values())) and sum(made.blocks) > 0


def test_a_worker_that_was_begun_anew_unnoticed():
    """Orders that come to the new process before it is prepared go out again."""
    hands = [LocalHand(setup()), LocalHand(setup())]
    made, ends = made_crew(*hands), {}
    for answer in made.run(iter(orders(30))):
        if answer is not None:
            ends[answer.end.index] = answer.end.tokens
            if len(ends) == 6:
                hands[1].worker = Worker(hands[1].setup)
    assert ends == alone(30) and len(made) == 2


def test_a_row_with_which_workers_die():
    """It fails, and no other."""
    hands = [LocalHand(setup(), dies_with=[4]), LocalHand(setup(), dies_with=[4])]
    ends = answers(made_crew(*hands), iter(orders(12)))
    failed = {index: end.error for index, end in ends.items() if isinstance(end, Failed)}
    assert len(ends) == 12 and 4 in failed and "3 workers died" in failed[4]
    assert {index: end.tokens for index, end in ends.items() if isinstance(end, Finished)}.items() <= alone(12).items()


def test_no_worker_is_left():
    hand = LocalHand(setup(), lives=1)
    made = made_crew(hand)
    with pytest.raises(RunError, match="no worker of Ray is left: the worker on machine 0: .*--resume"):
        for answer in made.run(iter(orders(20))):
            if answer is not None:
                hand.die()


def test_one_worker_that_is_gone_for_good():
    notes, hands = [], [LocalHand(setup()), LocalHand(setup(), lives=1)]
    made, ends = made_crew(*hands, notes=notes), {}
    for answer in made.run(iter(orders(24))):
        if answer is not None:
            ends[answer.end.index] = answer.end.tokens
            if len(ends) == 4:
                hands[1].die()
    assert ends == alone(24) and len(made) == 1 and "goes on without the worker on machine 1: gone" in notes


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"digest": "0"}, "storyteller: is another model there than here"),
        ({"version": "0.0"}, f"has onebuf {re.escape(__version__)}, and the run 0.0"),
        ({"model": "/nowhere"}, "/nowhere: no such folder or file"),
        ({"device": "metal"}, "metal"),
    ],
)
def test_a_worker_that_cannot_load(changes, words):
    """Without another one nothing runs; beside one that can, it is left out."""
    with pytest.raises(UsageError, match=f"no worker can run: the worker on machine 0: .*{words}"):
        made_crew(LocalHand(setup(**changes)))
    notes = []
    made = made_crew(LocalHand(setup(**changes)), LocalHand(setup()), notes=notes)
    assert len(answers(made, orders(3))) == 3 and len(made) == 1
    assert re.search(words, notes[0]) and notes[0].startswith("goes on without the worker on machine 0")


def test_a_request_that_can_never_run_fails():
    ends = answers(made_crew(LocalHand(setup())), [Order.of(Request(3, (1,) * 99, 4)), *orders(2)])
    assert isinstance(ends[3], Failed) and "99 prompt tokens" in ends[3].error and len(ends) == 3


def test_orders_that_come_late():
    """None says that there is none now; whoever waits may look at signals in between."""
    waiting = iter([None, orders(1)[0], None, None, orders(2)[1]])
    found = list(made_crew(LocalHand(setup())).run(waiting))
    assert None in found and [answer.end.index for answer in found if answer is not None] == [0, 1]


# Places


def node(name, alive=True, **resources):
    return {"Alive": alive, "NodeID": name, "NodeManagerAddress": f"{name}.example", "Resources": resources}


def test_places():
    """An actor per GPU where there are some; else one per machine, or as many as are asked for."""
    machines = [node("a", CPU=8.0), node("b", CPU=4.0, GPU=2.0), node("c", alive=False, CPU=9.0), node("d")]
    found = cluster.places(machines, "auto", None)
    assert [(place.node, place.gpus, place.cpus) for place in found] == [("b", 1, 1.0)] * 2
    found = cluster.places(machines, "cpu", 3)
    assert [(place.node, place.cpus) for place in found] == [("a", 2)] * 3 + [("b", 1)] * 3
    assert [place.cpus for place in cluster.places([node("e", CPU=2.0)], "auto", None)] == [2]
    assert len(cluster.places([node("e", CPU=2.0)], "auto", 9)) == 2
    with pytest.raises(UsageError, match="no machine of this Ray offers a GPU"):
        cluster.places([node("e", CPU=2.0)], "cuda", None)


# The command line


@pytest.fixture
def hands(monkeypatch):
    """Two workers of this process in the place of a cluster."""
    made = []

    class Here:
        def __init__(self, address):
            made.clear()

        def places(self, device, per_machine):
            return [cluster.Place(name, name, 1) for name in ("a", "b")]

        def actor(self, place, wanted):
            made.append(LocalHand(wanted))
            return made[-1]

        def close(self):
            pass

    monkeypatch.setattr(engine, "Cluster", Here)
    return made


def test_a_run_is_what_it_is_on_one_machine(hands, tmp_path, capsys):
    """Rows, order, samples, scores, --metrics, --json and exit codes; and --resume from one to the other."""
    lines = [{"prompt": f"The fox {i}", "max_tokens": 3 + i % 4} for i in range(12)] + [{"tokens": [99999]}]
    lines[2] |= {"n": 2, "prompt_logprobs": 1, "logprobs": 2}
    prompts, one, many, metrics = (tmp_path / name for name in ("p.jsonl", "one.jsonl", "many.jsonl", "m.prom"))
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = ["--prompts", prompts, "--temperature", 0.9, "--seed", 5, "--stop", "was", "--batch-size", 2]
    assert run(*options, "--out", one)[0] == 1
    options += ["--ray", "local", "--threads", "1", "--json", "--metrics", metrics, "--out", many]
    assert program.main(list(map(str, options))) == 1
    summary, notes = capsys.readouterr()
    assert rows_of(many) == rows_of(one) and "Ray: 2 workers on 2 machines" in notes
    assert json.loads(summary)["generated_tokens"] > 40 and json.loads(summary)["failed"] == 1
    assert 'onebuf_rows_total{state="finished"} 13' in metrics.read_text()
    assert all(len(hand.answered) > 2 for hand in hands)
    kept = [row for row in rows_of(one) if row["index"] % 3]
    many.write_text("".join(json.dumps(row) + "\n" for row in kept))
    many.with_name("many.jsonl.run").write_bytes(one.with_name("one.jsonl.run").read_bytes())
    assert program.main(list(map(str, [*options, "--resume"]))) == 1
    assert rows_of(many) == rows_of(one)


def test_scores_are_what_they_are_on_one_machine(hands, tmp_path, capsys):
    texts, one, many = tmp_path / "t.txt", tmp_path / "one.jsonl", tmp_path / "many.jsonl"
    texts.write_text("The old fox ran into the wood and slept.\nOnce upon a time there was a girl.\nTwo dogs\n")
    options = ["--eval", "perplexity", "--prompts", texts, "--context", 4, "--stride", 2]
    assert run(*options, "--out", one)[0] == 0
    assert program.main(list(map(str, [*options, "--out", many, "--ray", "local", "--threads", 1]))) == 0
    assert rows_of(many) == rows_of(one)


@pytest.mark.parametrize(
    "options, words",
    [
        (["--ray", "here"], ["--ray here", "HOST:PORT"]),
        (["--ray", "ray://a:1"], ["--ray ray://a:1", "HOST:PORT alone"]),
        (["--ray", "auto", "--prompt", "x"], ["--ray", "--prompts FILE"]),
        (["--ray", "auto", "--prompts", "p", "--explain"], ["--explain", "--ray"]),
        (["--ray", "auto", "--prompts", "p", "--trace", "t"], ["--trace", "--ray"]),
        (["--ray", "auto", "--prompts", "p", "--device", "checker"], ["--device checker", "--ray"]),
        (["--ray", "auto", "--prompts", "p", "--device", "cuda:1"], ["--device cuda:1", "give --device cuda"]),
        (["--ray", "auto", "--prompts", "p", "--ray-actors", "0"], ["--ray-actors 0", "1 to"]),
        (["--ray-actors", "2"], ["--ray-actors", "give --ray"]),
    ],
)
def test_bad_options(options, words, capsys):
    assert program.main(options) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and all(word in err for word in words)


def test_without_the_package(tmp_path):
    (tmp_path / "p.txt").write_text("The fox\n")
    code = "import sys; sys.modules['ray'] = None; from pipeline.run import main; sys.exit(main(sys.argv[1:]))"
    options = ["--prompts", tmp_path / "p.txt", "--ray", "local"]
    refuse(*options, words=["--ray", "pip install onebuf[ray]"], program=lambda *a: finish(start(["-c", code], a)))
