"""The benchmark: shapes, written weights, results, refusals. Nothing here depends on a time."""

import json
import math
import os
import re
import shutil
import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace

import numpy as np
import pytest
from support.bench import refuse, run
from support.paths import ROOT

import pipeline as p
from pipeline import bench
from pipeline.benching import bandwidth, machine, options, shapes, steps, weights, workloads
from pipeline.benching.cache import complete_folder, models_folder
from pipeline.benching.gguf_tensors import values
from pipeline.benching.machine import busy_cores
from pipeline.benching.options import parse_options
from pipeline.benching.workloads import Workload
from pipeline.errors import CompileError, RunError, UsageError
from pipeline.metalc.toolchain import runnable_isas

# Shapes


def parameters_of(shape):
    return sum(
        math.prod(t.shape) * (32 // t.bits if t.role == "words" else 1)
        for t in shape.tensors()
        if t.role in ("words", "ones", "normal")
    )


def test_the_shape_has_its_models_sizes():
    parameters = parameters_of(shapes.cut_shape("qwen3-30b-a3b"))
    # Of one layer: attention 2 · 2048 · 4096 + 2 · 2048 · 512, router 128 · 2048, experts 3 · 128 · 768 · 2048,
    # norms 2 · 2048 + 2 · 128; outside: embedding and head 151936 · 2048 each, the last norm.
    layer = 2 * 2048 * 4096 + 2 * 2048 * 512 + 128 * 2048 + 3 * 128 * 768 * 2048 + 2 * 2048 + 2 * 128
    assert parameters == 48 * layer + 2 * 151936 * 2048 + 2048 == 30_532_122_624


@pytest.mark.parametrize("name", [name for name in shapes.SHAPES if name != "tiny"])
def test_shapes_have_the_parameters_of_their_names(name):
    """Billions in all, and active in a token: of the experts as many as it chooses, of the embedding a row.
    Qwen3-Next's name says 3 of 3.6."""
    shape = shapes.cut_shape(name)
    total, active = re.fullmatch(r".*-(\d+)b-a(\d+)b", name).groups()
    c = shape.config
    experts = 3 * c["num_hidden_layers"] * c["hidden_size"] * c["moe_intermediate_size"]
    idle = experts * (c["num_experts"] - c["num_experts_per_tok"])
    parameters = parameters_of(shape)
    assert parameters == pytest.approx(float(total) * 1e9, rel=0.02)
    active_parameters = parameters - idle - c["vocab_size"] * c["hidden_size"]
    assert active_parameters == pytest.approx(float(active) * 1e9, rel=0.2 if "next" in name else 0.12)


def test_bytes_of_a_cut_shape():
    shape = shapes.cut_shape("qwen3-30b-a3b", layers=2, vocab=8192)
    # A 4-bit weight takes 4.5 bits with its scale and bias, an 8-bit one 8.5; a norm's 16.
    quantized = 2 * (2 * 2048 * 4096 + 2 * 2048 * 512 + 3 * 128 * 768 * 2048) + 2 * 8192 * 2048
    expected = quantized * 4.5 / 8 + 2 * 128 * 2048 * 8.5 / 8 + (2 * (2 * 2048 + 2 * 128) + 2048) * 2
    assert shape.nbytes == expected
    assert (shape.layers, shape.vocab) == (2, 8192)
    assert shapes.SHAPES["qwen3-30b-a3b"]["num_hidden_layers"] == 48


@pytest.mark.parametrize("cut", [{"layers": 49}, {"layers": 0}, {"vocab": 151937}, {"vocab": 8}])
def test_impossible_cuts(cut):
    with pytest.raises(UsageError, match="give .* to"):
        shapes.cut_shape("qwen3-30b-a3b", **cut)


# Written weights


def test_written_weights_load_and_generate(tiny_folder):
    with p.open_checkpoint(tiny_folder) as checkpoint:
        assert (
            sum(info.nbytes for info in checkpoint.tensors.values()) == shapes.Shape("tiny", checkpoint.config).nbytes
        )
        model = p.load_model(checkpoint)
        assert model.repacked_bytes == 0
        logits = model.logits([1, 2, 3])
        assert np.isfinite(logits).all() and 0.1 < logits.std() < 10
        generator = p.Generator(model, batch_size=2, context=16)
        ends = [
            event
            for event in generator.run([p.Request(0, (3, 5), 4), p.Request(1, (7,), 4)])
            if hasattr(event, "reason")
        ]
        assert sorted(len(end.tokens) for end in ends) == [4, 4]


def test_weights_have_the_stated_spread(tiny_folder):
    with p.open_checkpoint(tiny_folder) as checkpoint:
        for module, inputs in (
            ("lm_head", 128),
            ("model.layers.0.mlp.gate", 128),
            ("model.layers.0.self_attn.o_proj", 256),
        ):
            found = values(checkpoint, module)
            assert found.std() == pytest.approx(inputs**-0.5, rel=0.05)
            assert abs(found.mean()) < 0.02 * found.std() * 5


def test_weights_are_written_once(tmp_path):
    said, shape = [], shapes.cut_shape("tiny", layers=1, vocab=64)
    folder = weights.ensure_checkpoint(shape, said.append)
    assert folder == tmp_path / "cache" / "models" / shape.folder
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert weights.ensure_checkpoint(shape, said.append) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    assert len(said) == 1 and "KiB" in said[0] and str(folder) in said[0]
    assert os.listdir(folder.parent) == [folder.name]


def test_the_size_is_said_before_anything_is_written(tmp_path):
    shape = shapes.cut_shape("tiny", layers=1, vocab=64)

    def say(line):
        assert not list((tmp_path / "cache" / "models").iterdir())

    weights.ensure_checkpoint(shape, say)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_write_leaves_nothing(monkeypatch, error):
    def interrupted(stream, index, spec):
        if index == 3:
            raise error
        stream.write(bytes(spec.nbytes))

    monkeypatch.setattr(weights, "_write_tensor", interrupted)
    shape = shapes.cut_shape("tiny")
    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else UsageError) as raised:
        weights.ensure_checkpoint(shape, lambda line: None)
    assert os.listdir(models_folder()) == []
    if raised.type is UsageError:
        assert "No space left" in str(raised.value) and "OB_CACHE" in str(raised.value)


def test_two_writers_of_one_folder(tmp_path):
    target = tmp_path / "model"
    with complete_folder(target) as second:
        with complete_folder(target) as first:
            (first / "file").write_text("first")
        (second / "file").write_text("second")
    assert os.listdir(tmp_path) == ["model"]
    assert (target / "file").read_text() == "first"


# Measuring


def test_workloads_of_options():
    found = workloads.workloads(parse_options(["--pp", "32,512", "--tg", "8", "--batch", "1,4", "--context", "0,64"]))
    assert [(work.label, work.batch) for work in found] == [
        ("pp32", 1),
        ("pp32", 4),
        ("pp512", 1),
        ("pp512", 4),
        ("tg8", 1),
        ("tg8", 4),
        ("tg8 @ d64", 1),
        ("tg8 @ d64", 4),
    ]


def test_prompts_depend_on_the_seed_only():
    work = Workload("tg", 8, 2, 16)
    prompts = work.prompts(3, 100)
    assert prompts == work.prompts(3, 100) != work.prompts(4, 100)
    assert [len(prompt) for prompt in prompts] == [24, 24]
    assert prompts[0] != prompts[1] and all(0 <= token < 100 for prompt in prompts for token in prompt)


def test_sides_alternate():
    calls = []

    def side(name):
        return SimpleNamespace(
            name=name, prepare=lambda work: None, measure=lambda work, prompts: calls.append(name) or float(len(calls))
        )

    results = workloads.measure([side("a"), side("b")], Workload("tg", 1, 1), [], 2, 1, lambda *_: None)
    assert calls == ["a", "b"] * 3
    assert [(result.side, result.seconds) for result in results] == [("a", [3.0, 5.0]), ("b", [4.0, 6.0])]


def test_the_work_is_done_in_full(tiny_folder):
    """Each row's prompt goes through and each row gets its tokens."""
    with p.open_checkpoint(tiny_folder) as checkpoint:
        side = workloads.Onebuf(p.load_model(checkpoint), 1.0, 0)
        for work, prompt_tokens, decoded in (
            (Workload("pp", 5, 3), 15, 3),
            (Workload("tg", 6, 2), 2, 12),
            (Workload("tg", 6, 2, 4), 10, 12),
        ):
            side.prepare(work)
            for _ in range(2):
                assert side.measure(work, work.prompts(0, 256)) > 0
                stats = side._generator.stats
                assert (stats.prompt_tokens, stats.decode_tokens) == (prompt_tokens, decoded)


def test_a_text_that_ends_early_is_no_result(tiny_folder):
    with p.open_checkpoint(tiny_folder) as checkpoint:
        model = p.load_model(checkpoint)
        model.end_tokens = tuple(range(256))
        side, work = workloads.Onebuf(model, 0.0, 0), Workload("tg", 4, 1)
        side.prepare(work)
        with pytest.raises(RunError, match="0 tokens came instead of 4"):
            side.measure(work, work.prompts(0, 256))


@pytest.mark.parametrize("name", ["cpu", "checker"])
def test_all_memory_is_read(name):
    """On the checker without a finding, by threads that share a threadgroup as they do on a GPU."""
    device = p.open_device(name, threads=2)
    reader = bandwidth.Reader(device, 3 << 20)
    reader.measure(4)
    assert (reader.result.how, reader.result.nbytes, len(reader.result.passes)) == ("kernel", 3 << 20, 4)
    assert reader.result.best >= reader.result.median > 0
    device.check()


def test_a_gpu_that_is_nearly_full(monkeypatch):
    """The buffer takes half of what is left of memory that is the device's own, and no more than it needs."""

    def no_compiler(source):
        raise CompileError("no compiler")

    core = SimpleNamespace(compile=no_compiler)
    monkeypatch.setattr(bandwidth, "OWN_BYTES", 8 << 20)
    for free, expected in ((6 << 20, 3 << 20), (1 << 10, 1 << 20), (1 << 40, 8 << 20)):
        device = SimpleNamespace(core=core, threads=1, unified=False, free_bytes=lambda free=free: free)
        assert bandwidth.Reader(device).result.nbytes == expected


def test_memory_that_was_not_read_is_no_result(monkeypatch):
    """A kernel that leaves out a word is found."""
    source = bandwidth.SOURCE.replace("uint i = lane; i < args.words / 4", "uint i = lane; i < args.words / 4 - 1")
    monkeypatch.setattr(bandwidth, "SOURCE", source)
    with pytest.raises(RunError, match="a sum is wrong"):
        bandwidth.Reader(p.open_device(threads=2), 2 << 20)


def test_numpy_reads_where_no_shader_compiles():
    def no_compiler(source):
        raise CompileError("no C++ compiler")

    core = SimpleNamespace(compile=no_compiler)
    reader = bandwidth.Reader(SimpleNamespace(core=core, threads=2), 1 << 20)
    reader.measure(2)
    assert reader.result.how == "NumPy" and len(reader.result.passes) == 2


def test_busy_cores(tmp_path):
    stat = tmp_path / "stat"
    stat.write_text("cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\n")
    assert busy_cores(stat, 0) is None  # no time went by
    assert busy_cores(tmp_path / "absent", 0) is None
    found = busy_cores()
    assert found is None or 0 <= found <= os.cpu_count()


# Results


def test_a_busy_machine_is_told_of(capsys, monkeypatch):
    monkeypatch.setattr(machine, "busy_cores", lambda: 1.5)
    code, out, err = run(capsys, "--pp", 4, "--tg", 0, "--repeats", 1, "--json")
    assert code == bench.OK and "others use 1.5 cores" in err
    assert json.loads(out)["device"]["busy_cores"] == 1.5


def test_results_as_json(capsys):
    code, out, err = run(
        capsys,
        "tiny",
        "--layers",
        1,
        "--vocab",
        64,
        "--pp",
        4,
        "--tg",
        3,
        "--batch",
        "1,2",
        "--repeats",
        2,
        "--threads",
        2,
        "--json",
    )
    assert code == bench.OK and "KiB" in err
    found = json.loads(out)
    assert set(found) == {"model", "device", "settings", "peer", "bandwidth", "active", "results", "steps"}
    assert found["model"]["name"] == "tiny-1-layers-vocab-64-q4-g64" and found["peer"] is None
    assert found["active"]["windows"] == [{"positions": 0, "position_bytes": found["active"]["position_bytes"]}]
    assert found["settings"] == {"repeats": 2, "warmup": 1, "seed": 0, "temperature": 1.0, "kv_cache": "f16"}
    assert [(each["kind"], each["batch"]) for each in found["results"]] == [("pp", 1), ("pp", 2), ("tg", 1), ("tg", 2)]
    for each in found["results"]:
        assert set(each) == {
            "side",
            "kind",
            "tokens",
            "batch",
            "context",
            "seconds",
            "mean_tokens_per_second",
            "sigma_tokens_per_second",
            "median_tokens_per_second",
            "active_bytes_per_token",
            "share_of_bandwidth",
            "ratio_to_peer",
        }
        assert len(each["seconds"]) == 2 and (each["active_bytes_per_token"] is None) == (each["kind"] == "pp")
    assert len(found["steps"]) == 2 and set(found["steps"][0]["seconds"]) == set(steps.GROUPS)


def test_an_instruction_set_of_choice(capsys, monkeypatch):
    """It goes before OB_ISA, which stays as it is."""
    monkeypatch.setenv("OB_ISA", "avx1024")
    opened = []
    monkeypatch.setattr(
        bandwidth,
        "Reader",
        lambda device: (
            opened.append(device.isa)
            or SimpleNamespace(measure=lambda: None, result=bandwidth.Bandwidth("kernel", 1, [1.0]))
        ),
    )
    isa = runnable_isas()[0]
    code, out, _ = run(capsys, "--pp", 2, "--tg", 0, "--repeats", 1, "--device", "cpu", "--isa", isa, "--json")
    assert code == bench.OK and json.loads(out)["device"]["isa"] == isa
    assert opened == [isa] and os.environ["OB_ISA"] == "avx1024"


def test_tables_and_plot_of_a_run(capsys, tmp_path):
    file = tmp_path / "plot.svg"
    code, out, _ = run(
        capsys,
        "tiny",
        "--layers",
        1,
        "--vocab",
        64,
        "--pp",
        0,
        "--tg",
        2,
        "--context",
        "0,3",
        "--repeats",
        1,
        "--warmup",
        0,
        "--no-steps",
        "--kv-cache",
        "f32",
        "--plot",
        file,
    )
    assert code == bench.OK and "tg2 @ d3" in out and "read bandwidth" in out and "between them" not in out
    root = ElementTree.parse(file).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    texts = [element.text for element in root.iter() if element.text]
    assert "tiny, 1 layer, vocabulary 64, 4-bit" in texts and any("tg2), " in text and "of 1" in text for text in texts)
    assert [each.name for each in tmp_path.iterdir() if "svg" in each.name] == ["plot.svg"]


# Refusals


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["nosuch"], ["nosuch", "qwen3-30b-a3b", "storyteller", "smollm2"]),
        (["nosuch.gguf"], ["nosuch.gguf", "neither a checkpoint's folder, a .gguf file nor a name"]),
        ([__file__], ["test_bench.py", "neither a folder nor a GGUF file"]),
        ([ROOT / "docs"], ["config.json"]),
        ([__file__, "--layers", 2], ["--layers 2", "shapes"]),
        (["qwen3-30b-a3b", "--layers", 49], ["--layers 49", "48"]),
        (["qwen3-30b-a3b", "--vocab", 200000], ["--vocab 200000", "151936"]),
        (["storyteller", "--layers", 2], ["--layers 2", "shapes"]),
        (["--pp", 0, "--tg", 0], ["nothing is left"]),
        (["--pp", "1,x"], ["--pp", "'x'"]),
        (["--pp", "0,32"], ["--pp 0"]),
        (["--batch", 0], ["--batch 0"]),
        (["--context", -1], ["--context -1"]),
        (["--repeats", 0], ["--repeats 0"]),
        (["--warmup", -1], ["--warmup -1"]),
        (["--threads", 5000], ["--threads 5000"]),
        (["--temperature", "nan"], ["--temperature nan"]),
        (["--device", "checker"], ["--device checker", "cpu"]),
        (["--isa", "avx1024"], ["--isa avx1024", "avx2, baseline"]),
        (["--kv-cache", "bf16"], ["--kv-cache bf16", "f16, f32"]),
        (["--peer", "other"], ["--peer other", "llama.cpp"]),
        (["--plot", "a.png"], ["--plot a.png", ".svg"]),
        (["--plot", "no/such/a.svg"], ["no/such"]),
        (["--plot", "a.svg", "--tg", 0], ["--tg 0"]),
        (["--tg", 2000], ["tg2000", "1024"]),
        (["qwen3-30b-a3b", "--context", 50000], ["d50000", "40960"]),
        (["--bogus"], ["--help"]),
    ],
)
def test_refusals(capsys, arguments, words):
    refuse(capsys, *arguments, words=words)


def test_no_space_in_the_cache(capsys, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    refuse(capsys, "tiny", "--tg", 2, "--pp", 0, words=["free", "--layers", "OB_CACHE"])
    assert os.listdir(models_folder()) == []


def test_a_cache_that_cannot_be(capsys, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OB_CACHE", str(tmp_path / "file"))
    refuse(capsys, "tiny", "--tg", 2, "--pp", 0, words=["cannot be written", "OB_CACHE"])


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("OB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert models_folder() == tmp_path / "onebuf" / "models"


def test_the_documentation_names_every_option_and_field():
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    table = page.split("## Options")[1].split("## ")[0]
    named = set(re.findall(r"`(--[a-z]+(?:-[a-z]+)*)", table))
    assert named == {action.option_strings[-1] for action in options._parser()._actions if action.option_strings} - {
        "--help"
    }
    assert all(f"`{name}`" in page for name in shapes.SHAPES if name != "tiny")
    assert all(f"| {group} |" in page for group in steps.GROUPS)
