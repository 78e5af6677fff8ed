"""Numbers of configurations and GGUF keys at their extremes: each is compared with the tensors or has a bound before
memory or time follows from it. Either it is refused in one line, or it changes nothing that matters and the model
runs."""

import contextlib
import functools
import json
import signal
import tracemalloc

import pytest
from fuzz import damage, tiny
from support.families import files
from support.families.cases import CASES

import pipeline as p
from pipeline.errors import OnebufError
from pipeline.generation.generator import Generator
from pipeline.generation.requests import Finished, Request
from pipeline.inspecting import facts

pytestmark = pytest.mark.one_processor
EXTREMES = (2**31 - 2, 10**6, 2**31 - 1, 10**12, 10**400)
SECONDS = 5  # of the processor; a refusal takes some milliseconds
MEMORY = 30_000_000  # bytes, most of them messages


@contextlib.contextmanager
def little(what):
    """Ends what takes long, and measures what it takes of memory."""

    def hang(*_):
        raise AssertionError(f"{what}: more than {SECONDS} s")

    earlier = signal.signal(signal.SIGPROF, hang)
    tracemalloc.start()
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < MEMORY, what
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        tracemalloc.stop()
        signal.signal(signal.SIGPROF, earlier)


def refused_or_runs(path, processor, what):
    with little(what):
        try:
            with p.open_checkpoint(path) as checkpoint:
                facts.gather(checkpoint)
                model = p.load_model(checkpoint, device=processor)
                generator = Generator(model, context=min(8, model.context))
                assert isinstance(list(generator.run([Request(0, (3,), 2)]))[-1], Finished)
        except OnebufError as error:
            assert "\n" not in str(error) and len(str(error)) < 3000, what


@functools.cache
def described(name):
    return tiny.described(name)


def numbers(value, path=()):
    """The places of all whole numbers in a configuration."""
    for key, inner in value.items():
        if isinstance(inner, dict):
            yield from numbers(inner, (*path, key))
        elif type(inner) in (int, float):
            yield (*path, key)


@functools.cache
def families_of_places():
    """place -> the families that have it, in order."""
    found = {}
    for name in CASES:
        for place in numbers(described(name)["config"]):
            found.setdefault(place, []).append(name)
    return found


@pytest.mark.parametrize("name", CASES)
def test_numbers_of_a_configuration(processor, name, tmp_path):
    """Every number, also those within objects. Of a key that several families have, the extremes take turns; of any
    other one two come up."""
    made = described(name)
    files.write_folder(tmp_path, name, made)
    for place in numbers(made["config"]):
        families = families_of_places()[place]
        turn = families.index(name)
        shared = len(families) >= len(EXTREMES)
        for value in {EXTREMES[turn % 5], EXTREMES[(turn if shared else turn + 2) % 5]}:
            config = json.loads(json.dumps(made["config"]))
            inner = config
            for key in place[:-1]:
                inner = inner[key]
            inner[place[-1]] = value
            (tmp_path / "config.json").write_text(json.dumps(config))
            refused_or_runs(tmp_path, processor, f"{'.'.join(place)} = {value}")


SIZES = ("head_dim", "num_hidden_layers", "num_attention_heads", "vocab_size", "hidden_size")


@pytest.mark.parametrize("key", SIZES)
@pytest.mark.parametrize("value", [2**31 - 2, 10**6])
def test_the_number_is_named(key, value, tmp_path):
    """With what it should be, where a tensor tells."""
    made = described("llama")
    files.write_folder(tmp_path, "llama", made | {"config": made["config"] | {key: value}})
    with little(key), p.open_checkpoint(tmp_path) as checkpoint, pytest.raises(OnebufError) as refused:
        p.load_model(checkpoint)
    assert any(word in str(refused.value) for word in (f"{value:,}", str(value), f"{value // 2:,}", "[64, "))


def test_many_layers_are_one_line(tmp_path):
    made = described("qwen3_moe")
    files.write_folder(tmp_path, "qwen3_moe", made | {"config": made["config"] | {"num_hidden_layers": 4096}})
    with p.open_checkpoint(tmp_path) as checkpoint, pytest.raises(OnebufError) as refused:
        p.load_model(checkpoint)
    assert "num_hidden_layers = 4,096, the checkpoint has tensors of 2" in str(refused.value)


def test_many_experts_are_one_line(tmp_path):
    made = described("qwen3_moe")
    files.write_folder(tmp_path, "qwen3_moe", made | {"config": made["config"] | {"num_local_experts": 2**31 - 2}})
    with little("experts"), p.open_checkpoint(tmp_path) as checkpoint, pytest.raises(OnebufError) as refused:
        p.load_model(checkpoint)
    assert "2,147,483,646 experts" in str(refused.value)


GGUF_MODELS = [model for model in tiny.models() if "model.gguf" in model.files]


@pytest.mark.parametrize("model", GGUF_MODELS, ids=str)
def test_numbers_of_a_gguf_file(processor, model, tmp_path):
    """Keys, lengths of arrays, types, and the sizes, types and places of tensors."""
    content, file = model.files["model.gguf"], tmp_path / "model.gguf"
    turn = GGUF_MODELS.index(model)  # most places are those of other families, too
    for at, size, kind in damage.spans(content)[turn % 8 :: 8]:
        for value in (2**31 - 2, (1 << 8 * size) - 1) if kind in "IiQq" else (0,):
            changed = bytearray(content)
            changed[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, "little")
            file.write_bytes(changed)
            refused_or_runs(file, processor, f"{value} at byte {at}")


@pytest.mark.parametrize(
    "key, value", [("key_length", 2**31 - 2), ("block_count", 10**6), ("context_length", 2**32 - 1), ("head_count", 0)]
)
def test_keys_of_a_gguf_file(key, value, tmp_path):
    from support.families.gguf_layout import write_gguf

    name = {"head_count": "attention.head_count", "key_length": "attention.key_length"}.get(key, key)
    write_gguf(tmp_path / "model.gguf", "llama", described("llama"), "Q8_0", {f"llama.{name}": value})
    with little(key), pytest.raises(OnebufError) as refused, p.open_checkpoint(tmp_path / "model.gguf") as checkpoint:
        p.load_model(checkpoint)
    assert "\n" not in str(refused.value)
