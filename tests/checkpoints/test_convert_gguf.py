"""pipeline.convert writes GGUF files: blocks as llama.cpp makes them, and models that are the source's."""

import contextlib
import json
import struct

import numpy as np
import pytest
from fuzz import tiny
from support import gguf_files as files
from support.axes import pairs
from support.converting.block_goldens import NUMBERS, digests, importance, source
from support.families import golden
from support.families.cases import ALL
from support.families.files import write_folder
from support.families.gguf_layout import ARCHITECTURES, write_gguf
from support.families.grid import tokens
from support.families.layouts import write_blocks, write_mlx
from support.paths import golden as data
from support.stored_formats import decode

import pipeline as p
from pipeline import convert
from pipeline.checkpoints.gguf.header import read_header
from pipeline.checkpoints.storyteller import builtin_model
from pipeline.converting.blocks import quantize_blocks
from pipeline.converting.elsewhere import differences
from pipeline.converting.families import FAMILIES as MLX_FAMILIES
from pipeline.converting.recipes import block_of

GOLDEN = data("converted_blocks")
CLOSE = 1e-4  # of logits that differ in the order of sums
OTHER_LAYERS = ("gemma4_text", "gemma4_dense", "gemma4_small", "nemotron_h")  # that such a file does not say
FAMILIES = [name for name in ARCHITECTURES if name not in OTHER_LAYERS] + ["llama_biases"]
DAILY = ("llama", "gemma3_text", "deepseek_v3", "qwen3_5_text")


@pytest.mark.parametrize(
    "config, said",
    [
        ({"model_type": "lfm2_moe", "routed_scaling_factor": 1.5}, ["routed_scaling_factor of lfm2_moe as 1"]),
        ({"model_type": "lfm2_moe", "routed_scaling_factor": 1.0}, []),
        ({"model_type": "afmoe", "layer_types": ["full_attention"] * 4}, ["each 4th layer of afmoe"]),
        ({"model_type": "afmoe", "layer_types": ["sliding_attention"] * 3 + ["full_attention"]}, []),
        ({"model_type": "llama"}, []),
    ],
)
def test_what_llama_cpp_runs_otherwise_is_said(config, said):
    found = list(differences(config))
    assert len(found) == len(said) and all(words in line for words, line in zip(said, found))


# Blocks


@pairs("kind, weighted", NUMBERS, (False, True))
def test_blocks_are_those_of_llama_cpp(kind, weighted):
    """Row by row. Of the codes that are improved one by one, compilers make another sum now and then."""
    weights = importance() if weighted else None
    wanted = GOLDEN[kind + (" by importance" if weighted else "")]
    found = digests(quantize_blocks(source(), kind, weights))
    same = sum(mine == theirs for mine, theirs in zip(found, wanted, strict=True))
    assert same == len(wanted) if not weighted or "K" not in kind else same >= len(wanted) - 2


@pytest.mark.parametrize("kind", NUMBERS)
def test_importance_makes_what_matters_better(kind):
    rows, weights = source()[16:], importance()
    errors = [
        (weights * (decode(quantize_blocks(rows, kind, given), kind) - rows) ** 2).mean() for given in (None, weights)
    ]
    assert errors[1] <= errors[0] if kind == "Q8_0" else errors[1] < 0.95 * errors[0]


def test_small_floats_are_kept():
    rng = np.random.default_rng(2)
    blocks = rng.integers(0, 256, (8, 4, 17), np.uint8)
    blocks[..., 0] = rng.integers(100, 140, (8, 4))
    numbers = decode(blocks.reshape(8, -1), "MXFP4")
    assert (decode(quantize_blocks(numbers, "MXFP4"), "MXFP4") == numbers).all()


@pytest.mark.parametrize("value", (np.nan, np.inf, 1e12))
def test_numbers_that_no_block_holds(value):
    rows = np.ones((1, 256), np.float32)
    rows[0, 5] = value
    for kind in NUMBERS:
        with pytest.raises(FloatingPointError):
            quantize_blocks(rows, kind)


# Models


def converted(source, out, *options) -> None:
    assert convert.main([str(source), str(out), *options]) == 0


def logits(path, golden):
    with p.open_checkpoint(path) as checkpoint:
        model = p.load_model(checkpoint, device="cpu", threads=1)
        assert checkpoint.unused == ()
        return model.logits(tokens(64, golden["config"].get("vocab_size", 61)), 64, "f32")


def with_tokenizer(folder):
    (folder / "tokenizer.json").write_text(json.dumps(tiny.BYTE_LEVEL))
    return folder


@pytest.mark.parametrize("name", [n if n in DAILY else pytest.param(n, marks=pytest.mark.exhaustive) for n in FAMILIES])
def test_from_hugging_face(name, tmp_path):
    """The same numbers, so the logits that transformers computed."""
    made, wanted = golden.load(name)
    write_folder(tmp_path / "hf", name, made)
    converted(with_tokenizer(tmp_path / "hf"), tmp_path / "out.gguf", "--format", "F32")
    assert np.abs(logits(tmp_path / "out.gguf", made) - wanted).max() < CLOSE


@pytest.mark.parametrize("name", ("gpt_oss", "deepseek_v3"))
def test_from_mlx(name, tmp_path):
    """4 bits become 32 without loss; experts of gpt-oss stay small floats."""
    made, wanted = golden.load(name)
    write_mlx(tmp_path / "mlx", name, made)
    converted(with_tokenizer(tmp_path / "mlx"), tmp_path / "out.gguf", "--format", "F32")
    assert np.abs(logits(tmp_path / "out.gguf", made) - wanted).max() < CLOSE


def test_gpt_oss_as_published(tmp_path):
    made, wanted = golden.load("gpt_oss")
    write_blocks(tmp_path / "hf", "gpt_oss", made)
    converted(
        with_tokenizer(tmp_path / "hf"), tmp_path / "out.gguf", "--format", "Q8_0", "--rule", "attn|embd|output=F32"
    )
    assert read_header(tmp_path / "out.gguf").tensors["blk.0.ffn_up_exps.weight"].dtype == "MXFP4"
    assert np.abs(logits(tmp_path / "out.gguf", made) - wanted).max() < CLOSE


BACK = [n for n in ARCHITECTURES if ALL[n].model_type in MLX_FAMILIES]


@pytest.mark.parametrize(
    "name",
    [
        n
        if n in ("llama", "gemma3_text", "qwen3_next", "granitemoehybrid")
        else pytest.param(n, marks=pytest.mark.exhaustive)
        for n in BACK
    ],
)
def test_from_gguf_to_mlx(name, tmp_path):
    """Rows that rope turns and norms are put back as transformers has them; tokenizer and ends come along."""
    made, wanted = golden.load(name)
    tokenizer = files.builtin("qwen2" if "qwen" in name else "gpt-2", bos_token_id=0, eos_token_id=1)
    architecture = "llama" if name == "mixtral" else ARCHITECTURES[name]
    write_gguf(tmp_path / "in.gguf", name, made, "Q8_0", tokenizer | {"general.architecture": architecture})
    converted(tmp_path / "in.gguf", tmp_path / "mlx", "--rule", ".=none")
    assert np.abs(logits(tmp_path / "mlx", made) - wanted).max() < CLOSE
    with p.open_checkpoint(tmp_path / "in.gguf") as before, p.open_checkpoint(tmp_path / "mlx") as after:
        assert before.tokenizer().encode("Once upon a time, 12 x") == after.tokenizer().encode("Once upon a time, 12 x")
        assert set(before.end_tokens) == set(after.end_tokens) and before.bos_token == after.bos_token


def test_from_gguf_to_gguf(tmp_path):
    """The file's own metadata and names stay; only types change."""
    made, wanted = golden.load("llama")
    write_gguf(tmp_path / "in.gguf", "llama", made, "Q8_0", {"some.key": "kept", "some.list": [1, 2, 3]})
    converted(tmp_path / "in.gguf", tmp_path / "out.gguf", "--format", "F32")
    before, after = read_header(tmp_path / "in.gguf"), read_header(tmp_path / "out.gguf")
    assert list(after.tensors) == list(before.tensors) and {info.dtype for info in after.tensors.values()} == {"F32"}
    assert after.metadata["some.key"] == "kept" and list(after.metadata["some.list"]) == [1, 2, 3]
    assert np.abs(logits(tmp_path / "out.gguf", made) - wanted).max() < CLOSE


@pytest.mark.parametrize("name", ["gemma3_text"])
def test_types(name, tmp_path):
    """A recipe's types, F32 for vectors, and other blocks where rows are not whole ones."""
    made, _ = golden.load(name)
    write_folder(tmp_path / "hf", name, made)
    converted(with_tokenizer(tmp_path / "hf"), tmp_path / "out.gguf")
    tensors = read_header(tmp_path / "out.gguf").tensors
    rows = {key: info.shape[-1] for key, info in tensors.items() if len(info.shape) > 1}
    assert {tensors[key].dtype for key in tensors if key not in rows} == {"F32"}
    for key, columns in rows.items():
        assert tensors[key].dtype in (("Q4_K", "Q6_K") if columns % 256 == 0 else ("Q5_0", "Q8_0")), key
    assert tensors["token_embd.weight" if name == "gemma3_text" else "output.weight"].dtype == "Q6_K"
    metadata = read_header(tmp_path / "out.gguf").metadata
    assert metadata["general.file_type"] == 15 and metadata["general.quantization_version"] == 2


def test_recipes():
    """Of 32 layers, those of llama.cpp's Q4_K_M and Q5_K_S."""
    names = [f"blk.{i}.{stem}.weight" for i in range(32) for stem in ("attn_v", "ffn_down", "attn_q")] + [
        "output.weight"
    ]
    facts = {"general.architecture": "llama", "llama.block_count": 32}

    def chosen(stem, recipe, kind):
        found = [block_of(f"blk.{i}.{stem}.weight", (512, 512), recipe, kind, facts, names) for i in range(32)]
        return [i for i, each in enumerate(found) if each != kind], set(found) - {kind}

    more = [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]
    assert chosen("attn_v", "Q4_K_M", "Q4_K") == chosen("ffn_down", "Q4_K_M", "Q4_K") == (more, {"Q6_K"})
    assert chosen("attn_v", "Q4_K_S", "Q4_K") == ([0, 1, 2, 3], {"Q5_K"})
    assert chosen("ffn_down", "Q5_K_S", "Q5_K") == ([], set()) == chosen("attn_q", "Q4_K_M", "Q4_K")
    assert block_of("output.weight", (512, 512), "Q4_K_M", "Q4_K", facts, names) == "Q6_K"
    experts = facts | {"llama.expert_count": 8}
    assert block_of("blk.5.attn_k.weight", (512, 512), "Q4_K_M", "Q4_K", experts, names) == "Q8_0"


# Importance


def imatrix(path, entries: dict, form: str) -> None:
    """entries: name -> (counts, sums [matrices, columns])."""
    if form == "dat":
        raw = struct.pack("<i", len(entries))
        for name, (counts, sums) in entries.items():
            raw += struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", int(counts[0]), sums.size)
            raw += sums.astype("<f4").tobytes()
        path.write_bytes(raw + struct.pack("<ii", 3, 0))
        return
    tensors, data = [], b""
    for name, (counts, sums) in entries.items():
        for end, values in (("in_sum2", sums), ("counts", np.reshape(counts, (-1, 1)))):
            raw = values.astype("<f4").tobytes()
            tensors.append((f"{name}.{end}", values.shape[::-1], 0))
            data += raw + bytes(-len(raw) % 32)
    path.write_bytes(files.gguf({"general.type": "imatrix"}, tensors, data))


@pytest.mark.parametrize("form", ("dat", "gguf"))
def test_importance(form, tmp_path):
    """Of a matrix, and of each expert of a stack."""
    made, _ = golden.load("mixtral")
    write_folder(tmp_path / "hf", "mixtral", made)
    rng, experts = np.random.default_rng(4), made["config"]["num_local_experts"]
    with_tokenizer(tmp_path / "hf")
    converted(tmp_path / "hf", tmp_path / "plain.gguf", "--format", "Q4_0")
    columns = {key: info.shape[-1] for key, info in read_header(tmp_path / "plain.gguf").tensors.items()}
    q, down = "blk.0.attn_q.weight", "blk.1.ffn_down_exps.weight"
    entries = {
        q: ([4], rng.random((1, columns[q])) * 4),
        down: ([2] * experts, rng.random((experts, columns[down])) * 2),
    }
    imatrix(tmp_path / "file", entries, form)
    converted(tmp_path / "hf", tmp_path / "out.gguf", "--format", "Q4_0", "--imatrix", str(tmp_path / "file"))
    with p.open_checkpoint(tmp_path / "out.gguf") as out, p.open_checkpoint(tmp_path / "plain.gguf") as plain:
        changed = {key for key in out.tensors if out.raw(key).tobytes() != plain.raw(key).tobytes()}
        known = {name: out.known_names[name] for name in (q, down)}
        assert changed == set(known.values())
        stack = out.raw(known[down]).reshape(experts, -1)
    with p.open_checkpoint(tmp_path / "hf") as source:
        name = "model.layers.1.block_sparse_moe.experts.2.w2.weight"
        weights = (entries[down][1][2] / np.float32(2)).astype(np.float32)
        wanted = quantize_blocks(np.ascontiguousarray(source.view(name)), "Q4_0", weights)
    assert (stack[2] == wanted.reshape(-1)).all()


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "no imatrix file, or is cut short"),
        (struct.pack("<iii", 1, 500, 0), "no imatrix file"),
        (struct.pack("<i", 1) + struct.pack("<i", 3) + b"abc" + struct.pack("<iif", 1, 1, 1.0), "none of the model's"),
        (
            struct.pack("<ii", 1, 19) + b"blk.0.attn_q.weight" + struct.pack("<iif", 1, 1, 1.0),
            "has 1 values for 'blk.0.attn_q.weight', which has 768 columns",
        ),
    ],
)
def test_importance_that_cannot_be_used(content, words, tmp_path, capfd):
    made, _ = golden.load("llama")
    write_folder(tmp_path / "hf", "llama", made)
    (tmp_path / "file").write_bytes(content)
    with_tokenizer(tmp_path / "hf")
    refused(tmp_path / "hf", tmp_path / "out.gguf", capfd, words, "--imatrix", str(tmp_path / "file"))


@pytest.mark.parametrize("count", (-1.0, float("nan")))
def test_importance_of_a_count_that_is_none(count, tmp_path, capfd):
    made, _ = golden.load("llama")
    write_folder(tmp_path / "hf", "llama", made)
    imatrix(tmp_path / "file", {"blk.0.attn_q.weight": ([count], np.ones((1, 768), np.float32))}, "gguf")
    words = "'blk.0.attn_q.weight' has a count below 0; make it again"
    refused(with_tokenizer(tmp_path / "hf"), tmp_path / "out.gguf", capfd, words, "--imatrix", str(tmp_path / "file"))


# What is refused


def refused(source, out, capfd, words, *options) -> None:
    assert convert.main([str(source), str(out), *options]) == 2
    err = capfd.readouterr().err
    assert err.startswith("onebuf: error: ") and err.count("\n") == 1 and words in err, err
    assert not out.exists()


@pytest.mark.parametrize(
    "name, words",
    [
        ("mistral", "would not say what the model is: its windows is"),
        ("smollm3", "its turning is"),
        ("nemotron_h", "its mamba.limits is (0.001, inf), and (0.0, inf) would be read back"),
        ("gemma4_text", "model_type 'gemma4_text' cannot be written as GGUF; these can: afmoe"),
    ],
)
def test_models_that_a_file_cannot_say(name, words, tmp_path, capfd):
    """The header is read back before anything is written."""
    made, _ = golden.load(name)
    write_folder(tmp_path / "hf", name, made)
    refused(with_tokenizer(tmp_path / "hf"), tmp_path / "out.gguf", capfd, words)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda t: t["pre_tokenizer"].update(add_prefix_space=True), "cuts words by ByteLevel"),
        (lambda t: t["model"].update(type="WordLevel"), "WordLevel"),
        (
            lambda t: t.update(pre_tokenizer={"type": "Split", "pattern": {"Regex": "x+"}, "behavior": "Isolated"}),
            "its tokenizer would cut",
        ),
    ],
)
def test_tokenizers_that_a_file_cannot_say(change, words, tmp_path, capfd):
    made, _ = golden.load("llama")
    write_folder(tmp_path / "hf", "llama", made)
    content = json.loads(json.dumps(tiny.BYTE_LEVEL))
    change(content)
    (tmp_path / "hf" / "tokenizer.json").write_text(json.dumps(content))
    with contextlib.suppress(AssertionError):
        refused(tmp_path / "hf", tmp_path / "out.gguf", capfd, words)


@pytest.mark.parametrize(
    "out, options, words",
    [
        ("out.gguf", ("--bits", "4"), "--bits 4: is for MLX's affine format"),
        ("out.gguf", ("--format", "affine"), "a GGUF file has no such format; choose Q4_0"),
        ("out", ("--format", "Q4_K"), "an MLX folder (a path that ends in .gguf is a GGUF file) has no such format"),
        ("out", ("--mixed", "Q4_K_M"), "has no such recipe; choose mixed_2_6"),
        ("out.gguf", ("--mixed", "Q4_K_M", "--format", "Q4_K"), "cannot stand beside --format"),
        ("out", ("--rule", "lm_head"), "it must be REGEX=FORMAT"),
        ("out", ("--rule", "(=4"), "--rule (=4: "),
        ("out", ("--rule", "x=7"), "'7' is no format here"),
        ("out", ("--rule", "embed=8", "--rule", "q_prj=8"), "--rule q_prj=8: fits no tensor; names are like model."),
        ("out", ("--imatrix", "x"), "--imatrix: only the formats of GGUF files use it"),
    ],
)
def test_options_that_do_not_go_together(out, options, words, tmp_path, capfd):
    refused(builtin_model(), tmp_path / out, capfd, words, *options)


def test_a_file_that_is_there(tmp_path, capfd):
    (tmp_path / "out.gguf").write_bytes(b"mine")
    assert convert.main([str(builtin_model()), str(tmp_path / "out.gguf")]) == 2
    assert "is there already" in capfd.readouterr().err and (tmp_path / "out.gguf").read_bytes() == b"mine"


# MLX formats and rules


@pytest.mark.parametrize("mode", ("mxfp4", "mxfp8", "nvfp4"))
def test_modes_of_mlx(mode, tmp_path):
    made, wanted = golden.load("llama")
    write_folder(tmp_path / "hf", "llama", made)
    converted(with_tokenizer(tmp_path / "hf"), tmp_path / "out", "--format", mode, "--rule", "lm_head=8/32")
    with p.open_checkpoint(tmp_path / "out") as checkpoint:
        assert checkpoint.config["quantization"]["mode"] == mode
        assert checkpoint.config["quantization"]["lm_head"] == {"group_size": 32, "bits": 8, "mode": "affine"}
    found = logits(tmp_path / "out", made)
    assert np.corrcoef(found.reshape(-1), wanted.reshape(-1))[0, 1] > (
        0.95 if mode == "mxfp8" else 0.75
    )  # of weights without a pattern


def test_recipes_of_mlx_lm(tmp_path):
    made, _ = golden.load("llama")
    write_folder(tmp_path / "hf", "llama", made)
    converted(with_tokenizer(tmp_path / "hf"), tmp_path / "out", "--mixed", "mixed_3_6")
    table = json.loads((tmp_path / "out" / "config.json").read_text())["quantization"]
    six = {key for key, entry in table.items() if isinstance(entry, dict) and entry["bits"] == 6}
    assert table["bits"] == 3  # rows of down_proj are not whole groups, here
    assert six == {"lm_head", "model.layers.2.self_attn.v_proj", "model.layers.4.self_attn.v_proj"}


def test_the_built_in_model_again(tmp_path):
    """From MLX in one format to MLX in another."""
    converted(builtin_model(), tmp_path / "out", "--format", "mxfp8")
    with p.open_checkpoint(tmp_path / "out") as checkpoint:
        assert {info.dtype for info in checkpoint.tensors.values()} >= {"U32", "U8"}
        p.load_model(checkpoint, device="cpu", threads=1)


# Peers


@pytest.mark.parametrize("options", [(), ("--format", "Q8_0")])
def test_llama_cpp_opens_it(options, tmp_path):
    """Where llama-cpp-python is: the same tokens of a text, and the same ones chosen."""
    llama_cpp = pytest.importorskip("llama_cpp")
    out = tmp_path / "out.gguf"
    converted(builtin_model(), out, *options)
    with p.open_checkpoint(out) as checkpoint:
        prompt = checkpoint.tokenizer().encode("Once upon a time, the fox")
        model = p.load_model(checkpoint, device="cpu")
        model.end_tokens = ()
        events = p.Generator(model, context=128, kv_cache="f32").run([p.Request(0, prompt, 24)])
        ours = list(list(events)[-1].tokens)
    peer = llama_cpp.Llama(str(out), n_ctx=128, n_threads=2, verbose=False)
    assert tuple(peer.tokenize(b"Once upon a time, the fox", add_bos=True, special=True)) == prompt
    theirs = [token for token, _ in zip(peer.generate(list(prompt), temp=0.0, repeat_penalty=1.0), range(24))]
    assert ours == theirs
