"""Choices that change no bit: their tables in the cache, and the tokens of a model under any of them."""

import itertools
import json
import os
from dataclasses import asdict, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pipeline as p
from pipeline.benching.options import parse_options
from pipeline.benching.running import run
from pipeline.benching.tune import Finding, Task, Timer, best, choose
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.device.choices import LARGEST, Choices, default_choices
from pipeline.device.tuning import read_table, table_path, tuned_choices, write_table
from pipeline.errors import UsageError
from pipeline.generation.requests import Token

DEFAULT = Choices()
CHOICES = st.builds(Choices, **{field.name: st.integers(0, LARGEST) for field in fields(Choices)})
OTHERS = st.one_of(st.none(), st.booleans(), st.floats(), st.text(), st.integers(max_value=-1), st.lists(st.integers()))


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("OB_CACHE", str(tmp_path))
    monkeypatch.delenv("OB_TUNING")
    return tmp_path


def tuned(hardware="gpu", shaders="one"):
    return tuned_choices(hardware, lambda: shaders, DEFAULT)


@given(choices=CHOICES)
def test_a_table_gives_what_was_written(cache, choices):
    write_table(table_path("gpu"), "gpu", "one", choices)
    assert tuned() == choices
    assert [path.name for path in (cache / "tuning").iterdir()] == [table_path("gpu").name]


def test_a_table_of_other_shaders_or_devices_is_left_alone(cache, capsys, monkeypatch):
    other = replace(DEFAULT, few_heads=7)
    write_table(table_path("gpu"), "gpu", "one", other)
    assert tuned("gpu 2") == DEFAULT and capsys.readouterr().err == ""
    assert tuned(shaders="two") == DEFAULT
    error = capsys.readouterr().err
    assert "other shaders" in error and "--tune" in error and error.count("\n") == 1
    table_path("gpu").rename(table_path("gpu 2"))
    assert tuned("gpu 2") == DEFAULT and "another device" in capsys.readouterr().err
    table_path("gpu 2").rename(table_path("gpu"))
    monkeypatch.setenv("OB_TUNING", "0")
    assert tuned() == DEFAULT and capsys.readouterr().err == ""


@given(name=st.sampled_from([field.name for field in fields(Choices)]), value=OTHERS)
def test_a_bad_value_is_named(cache, name, value):
    path = table_path("gpu")
    write_table(path, "gpu", "one", DEFAULT)
    table = json.loads(path.read_text())
    table["choices"][name] = value
    path.write_text(json.dumps(table))
    with pytest.raises(UsageError, match=name):
        read_table(path, "gpu", "one")


@given(data=st.one_of(st.binary(max_size=80), st.sampled_from([b"[" * 60000, b"{}", b"[]", b" " * 70000, b"1"])))
def test_any_other_file_is_one_line(cache, data):
    path = table_path("gpu")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    with pytest.raises(UsageError) as error:
        read_table(path, "gpu", "one")
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_choices_that_are_missing_or_unknown_are_refused(cache):
    path = table_path("gpu")
    for choices in (asdict(DEFAULT) | {"more": 1}, {"few_heads": 1}):
        write_table(path, "gpu", "one", DEFAULT)
        path.write_text(json.dumps(json.loads(path.read_text()) | {"choices": choices}))
        with pytest.raises(UsageError, match="exactly"):
            read_table(path, "gpu", "one")


@pytest.mark.parametrize(
    "hardware, threadgroups",
    [("Apple M1", 32), ("Apple M2 Max", 128), ("Apple M4 Pro", 96), ("Apple M3 Ultra", 384), ("Radeon", 256)],
)
def test_defaults_of_macs(hardware, threadgroups):
    found = default_choices("metal", hardware)
    assert (found.split_threadgroups, found.few_heads) == (threadgroups, threadgroups)
    assert default_choices("cuda", hardware) == DEFAULT


def test_a_variant_gains_only_beyond_noise():
    task, other = Task(1, 128), Task(8, 128)
    noisy = Finding("few_heads", 1, {task: [0.9, 1.1, 0.95, 1.2, 0.7]})
    slower_elsewhere = Finding("few_heads", 2, {task: [0.9] * 5, other: [1.2] * 5})
    good, better = (Finding("few_heads", value, {task: [value / 10] * 5, other: [1.0] * 5}) for value in (9, 8))
    assert best([noisy, slower_elsewhere]) is None
    assert best([noisy, good, better, slower_elsewhere]) is better
    assert better.ratio == pytest.approx(0.8**0.5)


@pytest.mark.parametrize(
    "choices",
    [
        Choices(0, 0, 0, 0, 0, 0),
        Choices(*[LARGEST] * 6),
        Choices(2, 8, 1, 1, LARGEST, 0),
        Choices(16, LARGEST, 0, 0, LARGEST, LARGEST),
    ],
)
def test_tokens_are_the_same_under_any_choices(monkeypatch, choices):
    """A prompt, and rows that decode together, of the built-in model."""
    prompts = ["Once upon a time", "The dog", "A", "One day, Lily", "Tom"]

    def texts(chosen):
        device = p.open_device("cpu", threads=2)
        device.choices = chosen
        with p.open_checkpoint(builtin_model()) as checkpoint:
            model = p.load_model(checkpoint, device=device)
            generator = p.Generator(model, batch_size=len(prompts))
            ids = [checkpoint.tokenizer().encode(prompt) for prompt in prompts]
            requests = [p.Request(i, tuple(each), 24, 0.8, i) for i, each in enumerate(ids)]
            return [
                (event.index, event.token, event.logprob)
                for event in generator.run(requests)
                if isinstance(event, Token)
            ]

    wanted = sorted(texts(DEFAULT))
    assert len(wanted) > 60 and sorted(texts(choices)) == wanted


# -- the measurement -------------------------------------------------------------------------------


class Clock(Timer):
    """A timer for which a run takes as long as seconds_of(chain) says."""

    def __init__(self, model, seconds_of):
        super().__init__(model, "f16")
        self.seconds_of = seconds_of

    def seconds(self, chain):
        return self.seconds_of(chain)


@pytest.fixture(scope="module")
def story():
    with p.open_checkpoint(builtin_model()) as checkpoint:
        yield p.load_model(checkpoint, device=p.open_device("cpu"))


def grouped(chain):
    return any("grouped" in dispatch.kernel for dispatch in chain.plan.dispatches)


def test_what_is_faster_twice_is_chosen(story):
    works = [Task(rows, 16) for rows in (2, 4, 8)]
    chosen, found = choose(Clock(story, lambda chain: 1 + grouped(chain)), works, Choices(), 3, lambda line: None)
    assert chosen.grouped_rows == 16  # the first that groups no experts of eight rows
    assert {finding.name for finding in found} == {"grouped_rows"}


def test_what_is_faster_once_is_not(story):
    runs = itertools.count()  # eight are of the first measurement: two chains, warmed up once, three times

    def seconds(chain):
        return 0.5 if next(runs) < 8 and grouped(chain) else 1.0

    chosen, _ = choose(Clock(story, seconds), [Task(2, 16)], Choices(), 3, lambda line: None)
    assert chosen == Choices()


def test_what_does_not_fit_is_not_measured(story, monkeypatch):
    monkeypatch.setattr(type(story.device), "free_bytes", lambda self: 1 << 10)
    chosen, found = choose(Clock(story, grouped), [Task(2, 16)], Choices(), 3, lambda line: None)
    assert chosen == Choices() and not found


def test_the_command_measures_and_keeps_a_table(cache, monkeypatch, capsys):
    monkeypatch.setattr(
        "pipeline.benching.tune.Timer", lambda model, kv_cache: Clock(model, lambda chain: 1 + grouped(chain))
    )
    monkeypatch.setattr("pipeline.benching.tune.ROWS", (2, 8))
    run(parse_options([str(builtin_model()), "--tune", "--device", "cpu", "--repeats", "5"]))
    printed = capsys.readouterr().out
    assert "written: " in printed and len(list((cache / "tuning").glob("*"))) == 1
    monkeypatch.setattr("pipeline.benching.tune.Timer", lambda model, kv_cache: Clock(model, lambda chain: 1))
    run(parse_options([str(builtin_model()), "--tune", "--device", "cpu", "--repeats", "5"]))
    assert "the table from before stays" in capsys.readouterr().out
    assert len(list((cache / "tuning").glob("*"))) == 1


@pytest.mark.parametrize(
    "option", [["--json"], ["--plot", "x.svg"], ["--peer", "torch"], ["--batch", "4"], ["--seed", "3"]]
)
def test_options_without_a_meaning_are_refused(option):
    with pytest.raises(UsageError, match=f"{option[0]} has no meaning with --tune"):
        parse_options(["--tune", "--device", "cpu", *option])


def test_too_few_repeats_are_refused():
    with pytest.raises(UsageError, match="--repeats 4: too few to tell a gain from noise; give 5 or more"):
        parse_options(["--tune", "--device", "cpu", "--repeats", "4"])


def test_the_second_measurement_counts_the_same_chains(story):
    works = [Task(rows, 16) for rows in (2, 4, 8)]
    _, found = choose(Clock(story, lambda chain: 1 + grouped(chain)), works, Choices(), 3, lambda line: None)
    assert {frozenset(finding.ratios) for finding in found} == {frozenset(found[0].ratios)}


def test_without_memory_nothing_is_measured(cache, monkeypatch, capsys):
    monkeypatch.setattr("pipeline.device.device.Device.free_bytes", lambda self: 0)
    with pytest.raises(UsageError, match="nothing could be measured"):
        run(parse_options([str(builtin_model()), "--tune", "--device", "cpu", "--repeats", "5"]))
    assert "not measured, because a cache takes more than half" in capsys.readouterr().out


def test_a_place_that_cannot_be_written_is_found_before_anything_is_measured(cache, monkeypatch):
    (cache / "tuning").write_text("")
    monkeypatch.setattr("pipeline.benching.tune.choose", lambda *given: pytest.fail("it measured"))
    with pytest.raises(UsageError, match="cannot be written: .*; set OB_CACHE"):
        run(parse_options([str(builtin_model()), "--tune", "--device", "cpu", "--repeats", "5"]))


def test_a_pipe_is_no_table(cache, capsys):
    path = table_path("gpu")
    path.parent.mkdir()
    os.mkfifo(path)
    assert tuned() == DEFAULT and "is no table of choices" in capsys.readouterr().err


def test_other_values_of_the_variable_are_refused(cache, monkeypatch):
    monkeypatch.setenv("OB_TUNING", "off")
    with pytest.raises(UsageError, match="OB_TUNING is 'off'"):
        tuned()
