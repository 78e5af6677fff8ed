"""The reader of GGUF headers against well-formed files, files of the gguf package, and files that lie."""

import os
import struct
import time
import tracemalloc

import numpy
import pytest
from support import gguf_files as files
from support.axes import each

from pipeline.checkpoints.gguf import header as header_module
from pipeline.checkpoints.gguf.header import read_header
from pipeline.checkpoints.gguf.types import REMOVED, TYPES
from pipeline.checkpoints.gguf.values import MAX_DEPTH, Array
from pipeline.errors import CheckpointError, UnsupportedError

METADATA = {
    "general.architecture": "llama",
    "u8": (0, 200),
    "i8": (1, -100),
    "u16": (2, 60_000),
    "i16": (3, -30_000),
    "u32": (4, 2**32 - 1),
    "i32": (5, -(2**31)),
    "f32": 0.5,
    "yes": True,
    "no": False,
    "u64": (10, 2**64 - 1),
    "i64": (11, -(2**63)),
    "f64": (12, 1e300),
    "text": "日本 🦊",
    "empty": "",
    "ints": files.array(5, [1, -2, 3]),
    "words": files.array(8, ["a", "", "é" * 100]),
    "flags": files.array(7, [True, False]),
    "none": files.array(8, []),
    "nested": files.array(9, [files.array(4, [1, 2]), files.array(9, [files.array(8, ["x"])])]),
}
TENSORS = (("a", (3, 2), 0), ("blk.0.q", (64, 2), 2), ("scalar", (), 0), ("none", (0, 5), 0), ("k", (256, 1, 2), 12))


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.gguf"


def read(file, content: bytes):
    file.write_bytes(content)
    return read_header(file)


def refuse(file, content: bytes, *words: str, error=CheckpointError) -> None:
    file.write_bytes(content)
    with pytest.raises(error) as caught:
        read_header(file)
    message = str(caught.value)
    assert "\n" not in message and str(file) in message and len(message) < 500
    for word in words:
        assert word in message


def plain(value):
    return [plain(item) for item in value] if isinstance(value, Array) else value


@pytest.mark.parametrize("version", [2, 3])
def test_good_file(file, version):
    content = files.gguf(METADATA, TENSORS, version=version)
    header = read(file, content)
    assert header.version == version and header.size == len(content) and header.alignment == 32
    found = {key: plain(value) for key, value in header.metadata.items()}
    assert found == {
        "general.architecture": "llama",
        "u8": 200,
        "i8": -100,
        "u16": 60_000,
        "i16": -30_000,
        "u32": 2**32 - 1,
        "i32": -(2**31),
        "f32": 0.5,
        "yes": True,
        "no": False,
        "u64": 2**64 - 1,
        "i64": -(2**63),
        "f64": 1e300,
        "text": "日本 🦊",
        "empty": "",
        "ints": [1, -2, 3],
        "words": ["a", "", "é" * 100],
        "flags": [True, False],
        "none": [],
        "nested": [[1, 2], [["x"]]],
    }
    assert len(header.metadata["words"]) == 3 and "words" in repr(header.metadata["words"])
    assert plain(header.metadata["words"]) == plain(header.metadata["words"])  # an array is read as often as one likes
    assert header.data_offset % 32 == 0
    shapes = {name: (t.dtype, t.shape, t.offset - header.data_offset, t.nbytes) for name, t in header.tensors.items()}
    assert shapes == {
        "a": ("F32", (2, 3), 0, 24),
        "blk.0.q": ("Q4_0", (2, 64), 32, 72),
        "scalar": ("F32", (), 128, 4),
        "none": ("F32", (5, 0), 160, 0),
        "k": ("Q4_K", (2, 1, 256), 160, 288),
    }


def test_order_of_data_and_gaps_do_not_matter(file):
    content = (
        b"GGUF" + struct.pack("<IQQ", 3, 2, 0) + files.tensor("late", (2,), 0, 64) + files.tensor("early", (2,), 0, 0)
    )
    header = read(file, content + bytes(-len(content) % 32) + bytes(72))
    assert header.tensors["late"].offset - header.tensors["early"].offset == 64


@pytest.mark.parametrize("alignment", [1, 8, 64, 4096])
def test_alignment(file, alignment):
    header = read(file, files.gguf({"general.alignment": alignment}, TENSORS, alignment=alignment))
    assert header.alignment == alignment and header.data_offset % alignment == 0


@pytest.mark.parametrize("alignment", [0, 3, 48, 2.0, "32", True, files.array(4, [32])])
def test_impossible_alignment(file, alignment):
    refuse(file, files.gguf({"general.alignment": alignment}), "general.alignment", "power of two")


def test_alignment_beyond_the_file(file):
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 1) + files.pair("general.alignment", 4, 2**31)
    refuse(file, head + files.tensor("a", (1,), 0, 0) + bytes(100), '"a"', "truncated")


def test_not_a_gguf_file(file):
    refuse(file, b"PK\3\4" + bytes(40), "not a GGUF file")
    refuse(file, b"tjgg" + bytes(40), "GGJT", "convert", error=UnsupportedError)
    refuse(file, b"", "0 bytes", "too few")
    refuse(file, b"GGUF" + bytes(19), "23 bytes", "too few")


def test_versions(file):
    refuse(file, files.gguf({}, version=1), "version 1", error=UnsupportedError)
    refuse(file, files.gguf({}, version=4), "version 4", error=UnsupportedError)
    refuse(file, files.gguf({}, version=0), "version 0", error=UnsupportedError)
    refuse(file, b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian", error=UnsupportedError)


@each("field, number", ["count", "pairs"], [2**63, 2**64 - 1, 2**33, 100_000, 1000])
def test_impossible_counts(file, field, number):
    refuse(file, files.gguf({"a": 1}, **{field: number}), "tensors" if field == "count" else "pairs", "truncated")


def test_every_truncation_is_refused(file):
    content = files.gguf(METADATA, TENSORS[:2], data=bytes(32 + 72))
    for size in range(len(content)):
        refuse(file, content[:size])


def test_length_of_a_string(file):
    good = files.gguf({"key": "value"})
    for length in (6, 100, 2**31, 2**63, 2**64 - 1):
        bad = good.replace(struct.pack("<Q", 5) + b"value", struct.pack("<Q", length) + b"value")
        refuse(file, bad, '"key"', f"takes {length:,} bytes", "truncated")
        refuse(file, good.replace(struct.pack("<Q", 3) + b"key", struct.pack("<Q", length) + b"key"))


def test_text_that_is_not_utf8(file):
    refuse(file, files.gguf({"key": (8, b"\xff")}), '"key"', "not UTF-8")
    refuse(file, files.gguf({b"\xff": 1}), "a metadata key", "not UTF-8")
    refuse(file, files.gguf({}, [(b"\xff", (1,), 0)]), "tensor's name", "not UTF-8")
    header = read(file, files.gguf({"words": files.array(8, ["a", b"\xff"])}))
    with pytest.raises(CheckpointError, match='"words": string number 1 is not UTF-8'):
        list(header.metadata["words"])


def test_keys(file):
    refuse(file, files.gguf({"": 1}), "empty")
    refuse(file, files.gguf({"x" * 65_536: 1}), "a metadata key", "65,536 bytes")
    refuse(file, files.gguf({"a": 1}, pairs=2) + files.pair("a", 4, 7), '"a" appears twice')


@pytest.mark.parametrize("kind", [13, 14, 255, 2**32 - 1])
def test_unknown_value_types(file, kind):
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + files.string("key")
    refuse(file, head + struct.pack("<I", kind) + bytes(64), '"key"', f"type {kind}")
    refuse(file, head + struct.pack("<IIQ", 9, kind, 1) + bytes(64), '"key"', f"type {kind}")


def test_boolean_that_is_none(file):
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + files.string("key") + struct.pack("<I", 7)
    refuse(file, head + b"\2" + bytes(16), '"key"', "boolean of value 2")


@each("kind, count", [0, 4, 8, 9, 12], [2, 2**32, 2**61, 2**64 - 1])
def test_array_longer_than_the_file(file, kind, count):
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + files.string("key") + struct.pack("<IIQ", 9, kind, count)
    refuse(file, head + b"\0", '"key"')


def test_string_of_an_array_that_ends_outside(file):
    head = (
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + files.string("key") + struct.pack("<IIQ", 9, 8, 3) + files.string("ab")
    )
    for length in (9, 2**40, 2**63, 2**64 - 1):
        refuse(file, head + struct.pack("<Q", length) + bytes(8), '"key"', "3 strings")


def test_nesting(file):
    def nested(depth):
        return files.array(4, [7]) if depth == 1 else files.array(9, [nested(depth - 1)])

    assert plain(read(file, files.gguf({"deep": nested(MAX_DEPTH)})).metadata["deep"]) == [[[[7]]]]
    refuse(file, files.gguf({"deep": nested(MAX_DEPTH + 1)}), '"deep"', "more than 4 deep")
    refuse(file, _endless(), '"deep"', "deep")


def _endless() -> bytes:
    """100,000 arrays, each in the one before."""
    return (
        b"GGUF"
        + struct.pack("<IQQ", 3, 0, 1)
        + files.string("deep")
        + struct.pack("<I", 9)
        + struct.pack("<IQ", 9, 1) * 100_000
    )


def one_tensor(name="w", extents=(4, 2), kind=0, offset=0, data=64) -> bytes:
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + files.tensor(name, extents, kind, offset)
    return head + bytes(-len(head) % 32 + data)


def test_tensor_inside_the_file(file):
    assert read(file, one_tensor(data=32)).tensors["w"].nbytes == 32
    refuse(file, one_tensor(data=31), '"w"', "truncated")
    refuse(file, one_tensor(offset=32, data=63), '"w"', "truncated")
    refuse(file, one_tensor(offset=2**64 - 32), '"w"', "truncated")
    refuse(file, one_tensor(offset=2**63), '"w"', "truncated")


def test_tensor_that_is_not_aligned(file):
    refuse(file, one_tensor(offset=4), '"w"', "offset 4", "alignment 32")


@pytest.mark.parametrize(
    "extents", [(2**63,), (2**32, 2**32), (2**62, 2, 0), (2**64 - 1, 0), (2**40, 2**40, 2**40, 2**40)]
)
def test_shape_that_nothing_can_count(file, extents):
    refuse(file, one_tensor(extents=extents), '"w"', "64 bits")


def test_shape_larger_than_the_file(file):
    refuse(file, one_tensor(extents=(2**40,)), '"w"', "truncated")
    refuse(file, one_tensor(extents=(4, 3), data=32), '"w"', "truncated")


def test_dimensions(file):
    assert read(file, one_tensor(extents=(1, 2, 2, 2))).tensors["w"].shape == (2, 2, 2, 1)
    refuse(file, one_tensor(extents=(1, 1, 1, 1, 1)), '"w"', "5 dimensions")
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + files.string("w") + struct.pack("<I", 2**32 - 1)
    refuse(file, head + bytes(64), '"w"', "dimensions")


def test_rows_that_are_not_whole_blocks(file):
    refuse(file, one_tensor(extents=(33, 2), kind=2), '"w"', "rows of 33", "blocks of 32 (Q4_0)")
    refuse(file, one_tensor(extents=(128,), kind=12), '"w"', "blocks of 256 (Q4_K)")


@pytest.mark.parametrize("kind", [43, 255, 2**32 - 1])
def test_unknown_tensor_type_is_named(file, kind):
    refuse(file, one_tensor(kind=kind), '"w"', f"type {kind}", error=UnsupportedError)


@pytest.mark.parametrize("kind", sorted(REMOVED))
def test_removed_tensor_type_is_named(file, kind):
    refuse(file, one_tensor(kind=kind), '"w"', REMOVED[kind], "convert", error=UnsupportedError)


def test_twins_and_overlaps(file):
    refuse(file, files.gguf({}, [("w", (8,), 0), ("w", (8,), 0)]), '"w" appears twice')
    head = b"GGUF" + struct.pack("<IQQ", 3, 2, 0) + files.tensor("a", (16,), 0, 0) + files.tensor("b", (8,), 0, 32)
    refuse(file, head + bytes(-len(head) % 32 + 64), '"b" overlaps "a"')


def test_hostile_names_stay_one_short_line(file):
    for name in ("line\nbreak", "\x1b[31m", "x" * 10_000, ""):
        refuse(file, one_tensor(name=name, kind=99), "type 99", error=UnsupportedError)
        refuse(file, files.gguf({name + "k": 1}, pairs=2) + files.pair(name + "k", 4, 7), "appears twice")


def test_missing_file_and_folder(tmp_path):
    for path, words in ((tmp_path / "absent.gguf", "cannot be read"), (tmp_path, "is a folder")):
        with pytest.raises(CheckpointError, match=words):
            read_header(path)


def test_limit_of_the_header(file, monkeypatch):
    monkeypatch.setattr(header_module, "MAX_HEADER_BYTES", 1000)
    refuse(file, files.gguf({"text": "x" * 2000}), '"text"', "left of its header")


def vocabulary(count: int) -> bytes:
    """The metadata of a large tokenizer."""
    words = files.array(8, [f"token{i}" for i in range(count)])
    return (
        files.pair("tokens", *words)
        + files.pair("merges", *words)
        + files.pair("scores", *files.array(6, [0.0] * count))
    )


def test_large_file_opens_at_once(file):
    """5 GB of weights behind a vocabulary of 250,000: read in half a second, in memory for none of it."""
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 3) + vocabulary(250_000) + files.tensor("w", (2**30 + 2**28,), 0, 0)
    with open(file, "wb") as stream:
        stream.write(head + bytes(-len(head) % 32))
        os.ftruncate(stream.fileno(), stream.tell() + 5 * 2**30)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        header = read_header(file)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.5 and header.tensors["w"].nbytes == 5 * 2**30 and len(header.metadata["tokens"]) == 250_000
    tracemalloc.start()
    header = read_header(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
    assert sum(1 for word in header.metadata["tokens"] if word.startswith("token")) == 250_000


# The gguf package as the other side


def test_types_are_those_of_the_package():
    constants = pytest.importorskip("gguf.constants")
    package = {int(kind): (kind.name, *sizes) for kind, sizes in constants.GGML_QUANT_SIZES.items()}
    assert {
        kind: (block.name, block.elements, block.nbytes) for kind, block in TYPES.items() if kind in package
    } == package


def test_file_of_the_package(file):
    package = pytest.importorskip("gguf")
    writer = package.GGUFWriter(file, "qwen3moe")
    writer.add_block_count(3)
    writer.add_token_list([f"t{i}" for i in range(100)])
    writer.add_token_scores([i / 8 for i in range(100)])
    writer.add_token_types([1] * 100)
    writer.add_chat_template("{{ messages }}")
    rng = numpy.random.default_rng(0)
    arrays = {
        "f32": rng.normal(size=(3, 5)).astype(numpy.float32),
        "f16": rng.normal(size=(2, 2, 4)).astype(numpy.float16),
        "q8": package.quants.quantize(
            rng.normal(size=(6, 64)).astype(numpy.float32), package.GGMLQuantizationType.Q8_0
        ),
    }
    for name, array in arrays.items():
        raw = {"raw_dtype": package.GGMLQuantizationType.Q8_0} if name == "q8" else {}
        writer.add_tensor(name, array, **raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    header, content = read_header(file), file.read_bytes()
    reader = package.GGUFReader(file)
    assert set(header.metadata) == {key for key in reader.fields if not key.startswith("GGUF.")}
    for key, value in header.metadata.items():
        assert plain(value) == reader.fields[key].contents()
    for other in reader.tensors:
        own = header.tensors[other.name]
        assert own.shape == tuple(map(int, other.shape[::-1])) and own.nbytes == other.n_bytes
        assert own.dtype == other.tensor_type.name and own.offset == other.data_offset
        assert content[own.offset : own.offset + own.nbytes] == arrays[own.name].tobytes()
