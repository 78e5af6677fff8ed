"""The header reader against well-formed, lying and mutated files: a clear error or a correct load, never a crash."""

import json
import os
import tracemalloc

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.checkpoints.safetensors import DTYPE_BITS, MAX_HEADER_BYTES, read_header
from pipeline.errors import CheckpointError

GOOD = {
    "__metadata__": {"format": "pt"},
    "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]},
    "empty": {"dtype": "U8", "shape": [0, 5], "data_offsets": [32, 32]},
    "c": {"dtype": "U32", "shape": [], "data_offsets": [32, 36]},
}
DATA = bytes(range(36))


def encode(header, data=DATA, length=None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + data


def changed(name, **fields) -> dict:
    return GOOD | {name: GOOD[name] | fields}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.safetensors"


def refuse(file, content: bytes, *words: str) -> None:
    """The file is refused in one line that names it and holds `words`."""
    file.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_header(file)
    message = str(caught.value)
    assert "\n" not in message and str(file) in message and len(message) < 500
    for word in words:
        assert word in message


def test_good_file(file):
    file.write_bytes(encode(GOOD))
    header = read_header(file)
    start = file.stat().st_size - len(DATA)
    assert list(header.tensors) == ["a", "b", "empty", "c"]
    assert header.metadata == {"format": "pt"} and header.data_offset == start
    a, c = header.tensors["a"], header.tensors["c"]
    assert (a.name, a.dtype, a.shape, a.offset, a.nbytes, a.file) == ("a", "F32", (2, 3), start, 24, file)
    assert (c.shape, c.offset, c.nbytes) == ((), start + 32, 4)


def test_padding_and_no_tensors_are_allowed(file):
    file.write_bytes(encode(json.dumps(GOOD).encode() + b"   "))
    assert read_header(file).tensors["a"].offset == file.stat().st_size - len(DATA)
    file.write_bytes(encode({}, b""))
    assert read_header(file).tensors == {}


def test_header_order_does_not_matter(file):
    file.write_bytes(encode(dict(reversed(GOOD.items()))))
    assert read_header(file).tensors["b"].nbytes == 8


def test_sub_byte_types(file):
    file.write_bytes(encode({"x": {"dtype": "F4", "shape": [2, 3], "data_offsets": [0, 3]}}, b"abc"))
    assert read_header(file).tensors["x"].nbytes == 3
    refuse(file, encode({"x": {"dtype": "F4", "shape": [3], "data_offsets": [0, 2]}}, b"ab"), '"x"', "whole bytes")


@pytest.mark.parametrize("size", [0, 1, 7])
def test_too_short_for_a_length(file, size):
    refuse(file, b"\0" * size, f"{size} bytes", "too few")


@pytest.mark.parametrize("length", [len(DATA) + 10_000, MAX_HEADER_BYTES + 1, 2**63, 2**64 - 1])
def test_header_longer_than_the_file(file, length):
    refuse(file, encode(GOOD, length=length), "truncated", f"{length:,}")


@pytest.mark.parametrize("more", [1, 8])
def test_header_that_ends_just_behind_the_file(file, more):
    length = len(encode(GOOD)) - 8 + more
    refuse(file, encode(GOOD, length=length), "truncated", f"{length:,}")


def test_every_truncation_is_refused(file):
    whole = encode(GOOD)
    for size in range(len(whole)):
        refuse(file, whole[:size])


@pytest.mark.parametrize(
    "raw, word",
    [
        (b"", "brace"),
        (b"[]", "brace"),
        (b" {}", "brace"),
        (b"{", "not JSON"),
        (b'{"a": }', "not JSON"),
        (b'{"\xff": 1}', "not UTF-8 at byte 10"),
        (b'{"a": ' + b"[" * 200_000, "nested"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "not JSON"),
        (b'{"a": 1} x', "not JSON"),
        (b'{"a": 1, "a": 2}', '"a" appears twice'),
        (b'{"a": {"dtype": "U8", "dtype": "U8"}}', '"dtype" appears twice'),
    ],
)
def test_header_that_is_not_a_json_object(file, raw, word):
    refuse(file, encode(raw), word)


@pytest.mark.parametrize("metadata", [[], "x", 3, {"format": 1}, {"format": None}])
def test_bad_metadata(file, metadata):
    refuse(file, encode(GOOD | {"__metadata__": metadata}), "__metadata__")


@pytest.mark.parametrize("entry", [None, True, 3, 2.5, "x", [], {}])
def test_entry_of_the_wrong_kind(file, entry):
    refuse(file, encode(GOOD | {"a": entry}), '"a"')


@pytest.mark.parametrize("dtype", ["F31", "f32", "", None, 32, ["F32"], "X" * 1000])
def test_bad_dtype(file, dtype):
    refuse(file, encode(changed("a", dtype=dtype)), '"a"', "dtype")


@pytest.mark.parametrize(
    "shape", [None, 6, "6", [2, -3], [2, 3.0], [True, 6], ["2", 3], [2, [3]], [2**63], [10**4000], [1] * 17, {"0": 6}]
)
def test_shape_that_is_no_list_of_sizes(file, shape):
    refuse(file, encode(changed("a", shape=shape)), '"a"', "shape")


@pytest.mark.parametrize("shape", [[2, 4], [], [0], [2**32, 2**32], [2**62] * 16, [2**63 - 1, 0]])
def test_shape_that_does_not_fill_the_span(file, shape):
    refuse(file, encode(changed("a", shape=shape)), '"a"', "takes", "its data has 24")


def test_shape_without_elements_that_others_cannot_count(file):
    header = GOOD | {"empty": {"dtype": "U8", "shape": [3, 2**63 - 1, 0], "data_offsets": [32, 32]}}
    refuse(file, encode(header), '"empty"', "takes over", "its data has 0")


@pytest.mark.parametrize(
    "span", [None, [0], [0, 24, 32], [-1, 23], [0.0, 24.0], [False, 24], ["0", "24"], [0, 2**63], {"0": 24}, 24]
)
def test_span_that_is_no_pair_of_offsets(file, span):
    refuse(file, encode(changed("a", data_offsets=span)), '"a"', "data_offsets")


def test_span_backwards(file):
    refuse(file, encode(changed("a", data_offsets=[24, 0])), '"a"', "ends before")


@pytest.mark.parametrize("end", [37, 2**40, 2**63 - 1])
def test_span_outside_the_file(file, end):
    refuse(file, encode(changed("c", data_offsets=[32, end])), '"c"', "truncated")


def test_overlap(file):
    refuse(file, encode(changed("b", data_offsets=[20, 28])), '"b"', '"a"', "overlaps")
    refuse(file, encode(GOOD | {"twin": GOOD["a"]}), "overlaps")


def test_gap(file):
    without = {name: entry for name, entry in GOOD.items() if name != "b"}
    refuse(file, encode(without), "8 bytes before tensor", "belong to no tensor")
    refuse(file, encode(GOOD, DATA + b"xx"), "2 bytes after the last tensor")
    refuse(file, encode({}, b"x"), "1 bytes after")


def test_hostile_names_stay_one_short_line(file):
    for name in ("line\nbreak", "\x1b[31m", "x" * 10_000, "\ud800", ""):
        refuse(file, encode({name: {"dtype": "F31"}}, b""), "dtype")


def test_missing_file_and_folder(tmp_path):
    for path, words in ((tmp_path / "absent.safetensors", "cannot be read"), (tmp_path, "is a folder")):
        with pytest.raises(CheckpointError, match=words):
            read_header(path)


def test_absurd_length_reads_nothing(file):
    """A sparse file of 1 TB whose header claims 99 MB of zeros: refused on its first byte's worth of parsing."""
    with open(file, "wb") as stream:
        stream.write(encode(b"", b"", length=MAX_HEADER_BYTES + 1))
        os.ftruncate(stream.fileno(), 2**40)
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="claims"):
        read_header(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NEARBY = st.sampled_from([0, 1, 2, 3, 4, 7, 8, 9, 23, 24, 25, 31, 32, 33, 35, 36, 37, 2**31, 2**32, 2**63 - 1, 2**64])


@st.composite
def mutated_headers(draw):
    """GOOD with some fields of some tensors replaced by near misses or by anything."""
    header = json.loads(json.dumps(GOOD))
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from(["a", "b", "c", "empty"]))
        field = draw(st.sampled_from(["dtype", "shape", "data_offsets"]))
        near = {
            "dtype": st.sampled_from(sorted(DTYPE_BITS)),
            "shape": st.lists(NEARBY, max_size=4),
            "data_offsets": st.lists(NEARBY, min_size=2, max_size=2),
        }[field]
        header[name][field] = draw(st.one_of(near, near, near, JSON_VALUES))
    if draw(st.booleans()):
        header[draw(st.sampled_from(["a", "d", "__metadata__", ""]))] = draw(JSON_VALUES)
    return header


def check(file, content: bytes) -> None:
    """Refused by CheckpointError, or every tensor inside the file with as many bytes as its shape says."""
    file.write_bytes(content)
    try:
        header = read_header(file)
    except CheckpointError as error:
        assert "\n" not in str(error) and str(file) in str(error)
        return
    spans = sorted((tensor.offset, tensor.nbytes) for tensor in header.tensors.values())
    position = header.data_offset
    for offset, nbytes in spans:
        assert offset == position
        position += nbytes
    assert position == len(content) == header.size
    for tensor in header.tensors.values():
        assert tensor.nbytes * 8 == numpy.prod(tensor.shape, dtype=object) * DTYPE_BITS[tensor.dtype]


@settings(max_examples=400, deadline=None)
@given(header=mutated_headers(), extra=st.integers(-4, 4))
def test_mutated_header(tmp_path_factory, header, extra):
    file = tmp_path_factory.getbasetemp() / "mutated.safetensors"
    check(file, encode(header, (DATA + b"1234")[: len(DATA) + extra]))


@settings(max_examples=400, deadline=None)
@given(position=st.integers(0, len(encode(GOOD)) - 1), replacement=st.binary(max_size=4))
def test_mutated_bytes(tmp_path_factory, position, replacement):
    file = tmp_path_factory.getbasetemp() / "bytes.safetensors"
    whole = encode(GOOD)
    check(file, whole[:position] + replacement + whole[position + 1 :])


@settings(max_examples=300, deadline=None)
@given(header=mutated_headers())
def test_accepts_nothing_that_the_reference_refuses(tmp_path_factory, header):
    reference = pytest.importorskip("safetensors")
    file = tmp_path_factory.getbasetemp() / "reference.safetensors"
    file.write_bytes(encode(header))
    try:
        tensors = read_header(file).tensors
    except CheckpointError:
        return
    with reference.safe_open(file, framework="numpy") as opened:
        assert set(opened.keys()) == set(tensors)
        for name in tensors:
            assert tuple(opened.get_slice(name).get_shape()) == tensors[name].shape


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "int64", "bool"])
def test_files_of_the_reference_writer(file, dtype):
    reference = pytest.importorskip("safetensors.numpy")
    arrays = {"x": numpy.arange(6).reshape(2, 3).astype(dtype), "y": numpy.zeros((0, 2), dtype)}
    reference.save_file(arrays, file, metadata={"k": "v"})
    header = read_header(file)
    x = header.tensors["x"]
    assert header.metadata == {"k": "v"} and header.tensors["y"].nbytes == 0
    assert file.read_bytes()[x.offset : x.offset + x.nbytes] == arrays["x"].tobytes()
