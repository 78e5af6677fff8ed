"""States of recurrent layers in a batch: they go with their sequence, whatever runs beside it and wherever it is."""

import numpy as np
import pytest
from support.axes import each
from support.families import files, golden
from support.families.grid import tokens

import pipeline as p
from pipeline.generation.requests import Finished
from pipeline.generation.scheduler import Scheduler
from pipeline.models.cache import Cache
from pipeline.models.row_state import Rows

pytestmark = pytest.mark.one_processor  # states are not about kernels
NAME, CONTEXT = "qwen3_next", 320  # its last layer is recurrent


@pytest.fixture(scope="module")
def model(processor, tmp_path_factory):
    folder = tmp_path_factory.mktemp(NAME)
    made = golden.load(NAME)[0]
    files.write_folder(folder, NAME, made | {"config": made["config"] | {"max_position_embeddings": CONTEXT}})
    with p.open_checkpoint(folder) as checkpoint:
        yield p.load_model(checkpoint, device=processor)


def requests(count):
    """Prompts that begin alike for more than a block of the cache, and texts that end at different times."""
    rng = np.random.default_rng(0)
    common, made = rng.integers(0, 61, 66).tolist(), []
    for index in range(count):
        text = common[: 66 if index % 2 else 5] + rng.integers(0, 61, int(rng.integers(1, 20))).tolist()
        length = int(rng.integers(1, 150 if index % 4 == 0 else 30))
        made.append(p.Request(index, tuple(text), length, 0.8 if index % 3 else 0.0, index))
    return made


def ends(events):
    return {event.index: (event.tokens, event.logprobs) for event in events if isinstance(event, Finished)}


@pytest.fixture(scope="module")
def alone(model):
    asked = requests(9)
    return ends(p.Generator(model, batch_size=1, context=CONTEXT).run(asked))


@pytest.mark.parametrize("prompt_rows", [0, 5, 64])
def test_a_batch_gives_what_each_has_alone(model, alone, prompt_rows):
    """Prompts in pieces beside rows that decode, rows that move up as others end, slots that are used again."""
    generator = p.Generator(model, batch_size=4, context=CONTEXT, prompt_rows=prompt_rows)
    asked = requests(9)
    assert ends(generator.run(asked)) == alone
    assert generator.stats.prefix_tokens >= 2 * 64  # four prompts have a block in common, and two of them came early
    assert ends(generator.run(asked)) == alone


def test_prompts_go_on_from_a_snapshot(model):
    """The first prompt's states are kept where a step ends, the second one's where it leaves the first, and the third
    one goes on from there; those that come together wait for the first of them."""
    rng = np.random.default_rng(2)
    begin = rng.integers(0, 61, 200).tolist()
    asked = [
        p.Request(i, tuple(begin[:length] + [i, 5, 7]), 6, 0.7, i) for i, length in enumerate((200, 130, 200, 140))
    ]
    plain = p.Generator(model, batch_size=1, context=CONTEXT, shares=False)
    expected = ends(plain.run(asked))
    assert plain.stats.prefix_tokens == 0
    one_by_one = p.Generator(model, batch_size=1, context=CONTEXT)
    known = []
    for request in asked:
        before = one_by_one.stats.prefix_tokens
        assert ends(one_by_one.run([request]))[request.index] == expected[request.index]
        known.append(one_by_one.stats.prefix_tokens - before)
    assert known == [0, 0, 128, 128]
    together = p.Generator(model, batch_size=4, context=CONTEXT)
    assert ends(together.run(asked)) == expected
    assert together.stats.prefix_tokens >= 3 * 128


def test_few_snapshots_are_kept(model):
    """The longest unused go first; what has none is computed again."""
    rng, generator = np.random.default_rng(3), p.Generator(model, batch_size=1, context=CONTEXT)
    beginnings = [rng.integers(0, 61, 70).tolist() for _ in range(7)]
    asked = [p.Request(i, tuple([*beginnings[i % 7], i]), 2) for i in range(35)]
    expected = ends(p.Generator(model, batch_size=1, context=CONTEXT, shares=False).run(asked))
    assert ends(generator.run(asked)) == expected
    assert len(generator._batch.paging.snapshots._kept) <= 4


def test_what_was_given_up_or_cancelled_leaves_no_trace(model, alone, monkeypatch):
    """Sequences give up slots and blocks and are computed again; others are cancelled in the midst of a step."""

    def paged(slots, context, dtype, rows):
        return Cache.paged(model.cache_layers(), slots, context, 4, dtype, rows)

    monkeypatch.setattr(model, "paged_cache", paged)
    rng, scheduler = np.random.default_rng(1), Scheduler(model, batch_size=4, context=CONTEXT, prompt_rows=16)
    asked = requests(9)
    handles, events = [scheduler.submit(each) for each in asked], []
    while not scheduler.idle:
        events += scheduler.step()
        if rng.random() < 0.02:
            scheduler.cancel(handles[rng.integers(len(handles))])
    found = ends(events)
    assert scheduler.stats.preemptions > 0 and any(handle.end.reason == "cancelled" for handle in handles)
    for index, (got, logprobs) in found.items():
        assert (got, logprobs) == tuple(each[: len(got)] for each in alone[index])
        assert handles[index].end.reason == "cancelled" or len(got) == len(alone[index][0])


def test_the_seat_and_the_slot_change_nothing(model, alone):
    """The first requests end, so that the last one moves to the first row; its slot is another one than alone."""
    short = [p.Request(index, (1, 2, 3), 2 + index) for index in range(3)]
    last = requests(9)[8]
    found = ends(p.Generator(model, batch_size=4, context=CONTEXT).run([*short, last]))
    assert found[8] == alone[8]


@each("name", ["qwen3_next", "qwen3_5_moe_text", "qwen3_5_text"])
def test_states_of_a_prompt_however_it_is_cut(processor, name, tmp_path):
    """In one piece, in sevens, token by token: the same bits in all states."""
    files.write_folder(tmp_path, name, golden.load(name)[0])
    with p.open_checkpoint(tmp_path) as checkpoint:
        model, found = p.load_model(checkpoint, device=processor), []
        text = np.asarray(tokens(50, model.vocab_size), np.uint32)
        for rows in (50, 7, 1):
            state, pipe = Rows.zeros(rows), p.Pipeline(model.device, rows=rows)
            cache = model.cache(1, 64, rows=rows)
            chain = pipe.build(model.forward(pipe, state, cache))
            for first in range(0, 50, rows):
                some = text[first : first + rows]
                state.tokens.write(model.device, some)
                state.positions.write(model.device, np.arange(first, first + len(some), dtype=np.uint32))
                chain.commit(len(some)).wait()
                chain.check_status(len(some))
            found.append([storage.read(model.device).tobytes() for layer in cache.states for storage in layer])
    assert len(found[0]) == 6 and found[0] == found[1] == found[2]
