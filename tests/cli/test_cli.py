"""The command line as a process: exit codes, one-line errors, rows, summaries.

`run` is the real program, `fake` the same with the generator of fakes.py, where a test needs to slow it down or to make
it fail. `fresh` is the real one in an interpreter of its own: for each kind of end there is a test that has it.
"""

import json
import shutil
from pathlib import Path

import pytest
from support.paths import golden
from support.programs import certain, fake, finish, fresh, refuse, rows_of, run, start

from pipeline.checkpoints.storyteller import builtin_model
from pipeline.host import INSTRUCTION_SETS
from pipeline.metalc.toolchain import runnable_isas

GOLDEN = golden("golden")["4bit"]
SUMMARY_KEYS = {
    "device",
    "model",
    "prompt_tokens",
    "generated_tokens",
    "prefill_tokens_per_second",
    "decode_tokens_per_second",
    "command_buffers_per_token",
    "readback_bytes_per_token",
    "dispatches_per_layer",
    "peak_memory_bytes",
}


# What works


def test_a_large_cache_is_told_before_it_is_taken():
    code, _, err = fake("--prompt", "x", "--max-tokens", 40, "--kv-cache", "q8", env={"FAKE_CACHE": "25"})
    assert code == 0 and "onebuf: KV cache: 1.3 GiB in q8 for 1 × 42 positions\n" in err
    assert "KV cache" not in fake("--prompt", "x", "--max-tokens", 4, env={"FAKE_CACHE": "25"})[2]


def test_what_was_repacked_is_said_once():
    notes = "weights repacked in 1.3 s: 7 of GPTQ, 4 bits\nquantization_config asks for activations of 8 bits"
    code, out, err = fake("--prompt", "x", "--max-tokens", 4, env={"FAKE_NOTES": notes})
    assert code == 0 and "repacked" not in out
    for line in notes.splitlines():
        assert err.count(f"onebuf: {builtin_model().name}: {line}\n") == 1


def test_story():
    code, out, err = fresh("--max-tokens", 40, "--seed", 7)
    assert code == 0 and out.startswith("Once upon a time,") and len(out) > 60 and "\x1b" not in out + err
    assert "tok/s" in err and "command buffers per token  1\n" in err and "bytes read back per token  8\n" in err
    assert "seed" in err and "peak memory" in err and "expert load" in err
    assert run("--max-tokens", 40, "--seed", 7)[1] == out
    assert run("--max-tokens", 40, "--seed", 8)[1] != out


def test_prompt_streams_the_golden_text():
    case = GOLDEN[0]
    code, out, _ = run("--prompt", case["prompt"], "--max-tokens", len(case["tokens"]))
    assert code == 0 and out == case["prompt"] + case["text"] + "\n"


def test_an_instruction_set_of_choice():
    """--isa, which wins over OB_ISA; one that no processor has both of is refused by the device."""
    runnable = runnable_isas()[-1]
    code, out, _ = run("--prompt", GOLDEN[0]["prompt"], "--max-tokens", 8, "--isa", runnable, env={"OB_ISA": "avx1024"})
    assert code == 0 and GOLDEN[0]["text"].startswith(out.removeprefix(GOLDEN[0]["prompt"]).rstrip("\n"))
    other = "avx2" if runnable == "generic" else "generic"
    refuse("--isa", other, words=[other, "does not have", runnable])


def test_json_summary_alone():
    code, out, err = fresh("--prompt", "The fox", "--max-tokens", 20, "--json", "--threads", 1)
    summary = json.loads(out)
    assert code == 0 and err == "" and SUMMARY_KEYS <= set(summary)
    assert summary["device"] == "cpu" and summary["model"] == "storyteller" and summary["threads"] == 1
    assert summary["command_buffers_per_token"] == 1 and summary["readback_bytes_per_token"] == 8
    assert summary["dispatches_per_layer"] <= 12 and summary["prompt_tokens"] == 3
    assert summary["decode_tokens_per_second"] > 0 and summary["prefill_tokens_per_second"] > 0
    assert summary["peak_memory_bytes"] < 130e6
    counts = summary["expert_tokens"]
    assert len(counts) == 8 and {len(layer) for layer in counts} == {16}


def test_rows(tmp_path):
    prompts, out = tmp_path / "p.jsonl", tmp_path / "o.jsonl"
    lines = [
        {"prompt": c["prompt"], "id": f"n{i}"} if i % 2 else {"tokens": c["prompt_ids"]} for i, c in enumerate(GOLDEN)
    ]
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    code, printed, err = run("--prompts", prompts, "--out", out, "--max-tokens", 48, "--batch-size", 3)
    assert code == 0 and printed == "" and "generated" in err
    rows = rows_of(out)
    assert [row["index"] for row in rows] == list(range(len(GOLDEN)))
    for row, case in zip(rows, GOLDEN, strict=True):
        assert set(row) == {"id", "index", "prompt", "text", "tokens", "logprobs", "finish_reason"}
        assert row["id"] == (f"n{row['index']}" if row["index"] % 2 else row["index"])
        assert row["prompt"] == case["prompt"]
        assert row["tokens"][: len(certain(case))] == certain(case)
        assert row["text"] == case["text"] or row["tokens"] != case["tokens"]
        assert len(row["logprobs"]) == len(row["tokens"]) and all(value <= 0 for value in row["logprobs"])
        assert row["finish_reason"] == ("length" if len(row["tokens"]) == 48 else "stop")


@pytest.mark.parametrize("temperature", [0, 0.9])
def test_rows_do_not_depend_on_the_batch(tmp_path, temperature):
    prompts = tmp_path / "p.txt"
    prompts.write_text("".join(case["prompt"] + "\n" for case in GOLDEN))
    found = []
    for batch in (1, 3, 8):
        out = tmp_path / f"{batch}.jsonl"
        options = ("--temperature", temperature, "--seed", 11, "--max-tokens", 24, "--batch-size", batch)
        assert run("--prompts", prompts, "--out", out, *options)[0] == 0
        found.append([row["tokens"] for row in rows_of(out)])
    assert found[0] == found[1] == found[2]


def test_standard_input_to_standard_output():
    code, out, _ = fresh("--prompts", "-", "--out", "-", "--max-tokens", 3, data=b"The fox\n\nThe cat\n")
    assert code == 0 and [json.loads(line)["prompt"] for line in out.splitlines()] == ["The fox", "The cat"]


def test_several_prompts_without_a_file():
    code, out, _ = run("--prompts", "-", "--max-tokens", 3, "--batch-size", 2, data=b"The fox\nThe cat\n")
    fox, cat, rest = out.split("\n\n")
    assert code == 0 and fox.startswith("The fox") and cat.startswith("The cat") and rest == ""


def test_text_ends_at_the_context():
    tokens = json.dumps({"tokens": [5] * 1020}).encode()
    code, out, _ = run("--prompts", "-", "--out", "-", data=tokens)
    (row,) = map(json.loads, out.splitlines())
    assert code == 0 and row["finish_reason"] in ("length", "stop") and len(row["tokens"]) <= 4


def test_explain():
    code, out, err = run("--explain")
    assert code == 0 and err == "" and "layers.7" in out and "sample" in out and "1 command buffer" in out


def test_trace(tmp_path):
    file = tmp_path / "trace.json"
    code, _, _ = run("--prompt", "The fox", "--max-tokens", 3, "--trace", file)
    events = json.loads(file.read_text())["traceEvents"]
    dispatches = [e for e in events if e["ph"] == "X" and e["args"]]
    assert code == 0 and len(dispatches) >= 3 * 80 and all(e["dur"] >= 0 for e in dispatches)


@pytest.mark.parametrize("module", ["pipeline.run", "pipeline"])
def test_help(module):
    code, out, err = finish(start(["-m", module], ["--help"]))
    assert code == 0 and err == "" and "--temperature" in out and "exit codes" in out


@pytest.mark.parametrize("module", ["pipeline.run", "pipeline.bench"])
def test_devices_are_listed(module):
    """One line for each, opened without its kernels; then those that are not there, with the reason."""
    without = {"OB_CUDA_DRIVER": "/nonexistent/libcuda.so", "OB_THREADS": "3"}
    code, out, err = finish(start(["-m", module], ["--device", "list"], env=without))
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert (code, err) == (0, "") and list(lines) == ["cpu", "checker", "cuda", "metal"]
    (isa,) = {each for each in INSTRUCTION_SETS if f", {each}, " in lines["cpu"]}
    assert lines["cpu"].endswith(f", {isa}, 3 threads") and lines["checker"].endswith("1,024 threads per threadgroup")
    assert lines["cuda"].startswith("cuda     absent: NVIDIA's driver is not there: install it (/nonexistent")
    assert lines["metal"] == "metal    absent: Apple's GPUs are on macOS"


@pytest.mark.parametrize(
    "program, mistake",
    [
        ("run", ["--device", "x"]),
        ("check", ["f.metal", "--grid", "4"]),
        ("convert", ["a", "b", "--bits", "9"]),
        ("inspect", ["a", "--kv-cache", "x"]),
        ("bench", ["--device", "x"]),
    ],
)
def test_import_is_light(program, mistake):
    """Neither NumPy nor anything heavier is loaded, and errors before the run need none of it."""
    heavy = ("numpy", "rich", "tokenizers", "torch", "transformers", "pipeline._core")
    code = (
        f"import sys, pipeline; pipeline.__all__; import pipeline.{program} as r; assert r.main({mistake}) == 2; "
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    status, out, errors = finish(start(["-c", code], []))
    assert status == 0 and out == "[]\n" and errors.startswith("onebuf: error: ")


def test_plain_run_needs_no_rich():
    program = (
        "import sys; from pipeline.run import main; main(['--prompt', 'a', '--max-tokens', '2']);"
        "print([m for m in ('rich', 'torch', 'transformers') if m in sys.modules])"
    )
    assert finish(start(["-c", program], []))[1].endswith("\n[]\n")


# What cannot run


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--temperature", "-1"], ["--temperature -1", "0 (greedy)"]),
        (["--temperature", "nan"], ["--temperature nan"]),
        (["--device", "tpu"], ["--device tpu", "cpu"]),
        (["--device", "metal"], ["metal"]),
        (["--max-tokens", "0"], ["--max-tokens 0"]),
        (["--batch-size", "0"], ["--batch-size 0"]),
        (["--out", "absent/folder/o.jsonl"], ["--out absent/folder/o.jsonl", "no folder"]),
        (["--model", "absent"], ["absent", "no such folder"]),
        (["--model", "Makefile"], ["Makefile", "neither a folder nor a GGUF file"]),
        (["--prompts", "absent.txt"], ["absent.txt", "no such file"]),
        (["--prompts", "/dev/null"], ["/dev/null", "no prompts"]),
        (["--unknown"], ["--unknown", "--help"]),
    ],
)
def test_bad_command_line(arguments, words):
    refuse(*arguments, words=words)


def test_prompt_longer_than_the_context():
    refuse("--prompt", "the cat " * 2000, program=fresh, words=["--prompt", "context of 1,024", "shorten it"])


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", ["no prompts"]),
        (b"\n \n", ["no prompts"]),
        (b"\xff\n", ["line 1", "not UTF-8"]),
        (b'\n{"prompt" 3}\n', ["line 2", "not JSON"]),
        (b'{"tokens": [4096]}', ["line 1", "token 4096"]),
        (b'{"tokens": [1]\n{"prompt": 5}', ["line 1", "and 1 more"]),
    ],
)
def test_prompts_of_which_none_can_run(tmp_path, content, words):
    """The rows of an earlier run are not lost to a run that cannot start."""
    out = tmp_path / "o.jsonl"
    out.write_text("earlier\n")
    prompts = tmp_path / "p.jsonl"
    prompts.write_bytes(content)
    refuse("--prompts", prompts, "--out", out, "--overwrite", words=[str(prompts), *words])
    assert out.read_text() == "earlier\n"


@pytest.fixture
def model(tmp_path):
    return Path(shutil.copytree(builtin_model(), tmp_path / "model"))


def edit(model, **fields):
    file = model / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def test_truncated_checkpoint(model):
    with open(model / "model.safetensors", "r+b") as stream:
        stream.truncate(5_000_000)
    refuse("--model", model, words=["model.safetensors", "truncated"])


def test_header_that_lies(model):
    file = model / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(content.replace(b'"shape":[4096,32]', b'"shape":[4096,33]', 1))
    refuse("--model", model, words=["model.embed_tokens.weight", "4096, 33"])


def test_tensor_of_another_shape(model):
    edit(model, hidden_size=128)
    refuse("--model", model, words=["model.safetensors", "shape"])


def test_missing_tensor(model):
    edit(model, num_hidden_layers=9)
    refuse("--model", model, words=["model.layers.8"])


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"model_type": "llama9"}, ["llama9", "qwen3_moe"]),
        ({"model_type": None}, ["model_type"]),
        ({"model_type": ["x"]}, ["model_type"]),
        ({"quantization": {"bits": 7, "group_size": 64}}, ["7 bits"]),
        ({"quantization": {"bits": 4, "group_size": 64, "mode": "mxfp4"}}, ["mxfp4"]),
        ({"quantization": None, "quantization_config": {"quant_method": "higgs"}}, ["higgs"]),
        ({"num_experts": "many"}, ["num_experts"]),
        ({"num_attention_heads": 0}, ["num_attention_heads"]),
        ({"rms_norm_eps": "x"}, ["rms_norm_eps"]),
        ({"rms_norm_eps": float("nan")}, ["rms_norm_eps"]),
        ({"rope_parameters": 3}, ["rope"]),
        ({"max_position_embeddings": 2**60}, ["max_position_embeddings"]),
    ],
)
def test_unusable_config(model, fields, words):
    edit(model, **fields)
    refuse("--model", model, words=["config.json", *words])


def test_missing_files_of_a_checkpoint(model):
    (model / "tokenizer.json").unlink()
    refuse("--model", model, words=["tokenizer.json", "not found"])
    (model / "model.safetensors").unlink()
    refuse("--model", model, words=["neither model.safetensors"])
    (model / "config.json").unlink()
    refuse("--model", model, words=["config.json", "not found"])


# Some fail, some run


def test_bad_lines_among_good_ones(tmp_path):
    prompts, out = tmp_path / "p.jsonl", tmp_path / "o.jsonl"
    long = json.dumps({"tokens": [5] * 2000})
    prompts.write_bytes(
        b'{"prompt": "The fox"}\n{bad\n\xff\n{"tokens": [9999]}\n' + long.encode() + b'\n{"prompt": "The cat"}'
    )
    code, _, err = fresh("--prompts", prompts, "--out", out, "--max-tokens", 4, "--batch-size", 4)
    rows = rows_of(out)
    assert code == 1 and [row["index"] for row in rows] == list(range(6))
    assert [("error" in row) for row in rows] == [False, True, True, True, True, False]
    assert "not JSON" in rows[1]["error"] and "UTF-8" in rows[2]["error"] and "9999" in rows[3]["error"]
    assert "context" in rows[4]["error"] and rows[1]["finish_reason"] == "error" and len(rows[5]["tokens"]) == 4
    assert f"{prompts} line 2: not JSON" in err and "failed" in err


def test_failure_while_running(tmp_path):
    prompts, out = tmp_path / "p.txt", tmp_path / "o.jsonl"
    prompts.write_text("a\nb\nc\n")
    code, printed, _ = fake("--prompts", prompts, "--out", out, "--json", env={"FAKE_FAIL": "1"})
    rows = rows_of(out)
    assert code == 1 and json.loads(printed)["failed"] == 1
    assert rows[1]["error"] == "layer 3: every logit is NaN" and "error" not in rows[0] | rows[2]
