"""Native kernels over GGUF's blocks and MLX's mxfp4: rows that are no whole number of octets, and what lies behind
them."""

import platform
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from support.axes import axis, pairs
from support.kernels import DOT, NATIVE_BLOCKS, activations, assert_close, matrix, run, stored_activations

import pipeline as p
from pipeline.graph.formats import BLOCKS

OF_32 = [format for format, columns in NATIVE_BLOCKS if columns == 32]


pytestmark = pytest.mark.skipif(
    sys.platform == "darwin" or platform.machine().lower() not in ("x86_64", "amd64"),
    reason="native kernels are for x86-64",
)


@pytest.fixture(scope="module")
def native():
    """A device with native kernels, which every x86-64 processor with AVX2 has: a bundle without them fails here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OB_NATIVE", "1")
        device = p.open_device("cpu", threads=2)
    if device.isa == "baseline":
        pytest.skip("native kernels need AVX2, which this processor lacks")
    assert device.kernel("linear_gguf_q4_0").native
    return device


# An octet less one, an octet, one more, and one more than two.
@pairs("format, groups", OF_32, axis(range(1, 18), daily=[1, 7, 8, 9, 17]))
def test_any_number_of_groups(native, format, groups):
    """Rows that are worked on one by one, and in tiles of two and of four with what is left of them."""
    rng = np.random.default_rng(groups)
    weight, values = matrix(rng, (19, 32 * groups), format)
    for rows in (1, 2, 3, 4, 6, 7):
        x = activations(rng, rows, 32 * groups)
        y = run(native, rows, lambda pipe, x: pipe.linear(x, weight), x=x)
        bound = stored_activations(native, x, weight, values) + np.abs(x.astype(np.float64)) @ np.abs(values).T * DOT
        assert_close(y, x.astype(np.float64) @ values.T, bound)


@pytest.mark.parametrize("format", OF_32)
def test_rows_behind_do_not_count(native, format):
    """Where a row's last octet takes in blocks of the next row, infinite ones change nothing."""
    rng = np.random.default_rng(1)
    weight, _ = matrix(rng, (16, 32 * 9), format)
    x = activations(rng, 1, 32 * 9)
    expected = run(native, 1, lambda pipe, x: pipe.linear(x, weight), x=x)
    if format == "mxfp4":
        scales = np.array(weight.scales)
        scales[1::2] = 255
        other = p.Quantized(weight.weight, scales, None, 4, 32)
    else:
        data = np.array(weight.data)
        data[1::2] = 0x7C if format != "gguf_mxfp4" else 255  # NaN as f16, 2^127 as an exponent
        other = p.Blocks(data, weight.type)
    found = run(native, 1, lambda pipe, x: pipe.linear(x, other), x=x)
    assert found[0, ::2].tobytes() == expected[0, ::2].tobytes()
    assert (found[0, 1::2] != expected[0, 1::2]).all()


READ_TO_THE_END = """
    import mmap, sys
    import numpy as np
    import pipeline as p
    from pipeline.graph.formats import BLOCKS
    from pipeline.graph.tensors import Mapped, Storage

    OUTPUTS = 11

    def read(file, kind, columns, size, groups):
        shape = (OUTPUTS, groups * size)
        pages = -(-shape[0] * shape[1] // mmap.PAGESIZE)
        with open(file, "wb+") as stream:
            stream.write(bytes((pages + 1) * mmap.PAGESIZE))
            stream.flush()
            memory = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            stream.truncate(pages * mmap.PAGESIZE)   # from there on the map is no memory
        begin = pages * mmap.PAGESIZE - shape[0] * shape[1]
        if kind == "mxfp4":
            words = Storage((OUTPUTS, groups * 4), "u32", mapped=Mapped(file, memory, begin))
            begin = pages * mmap.PAGESIZE - OUTPUTS * groups
            scales = Storage((OUTPUTS, groups), "u8", mapped=Mapped(file, memory, begin))
            weight = p.Quantized(words, scales, None, 4, 32)
        else:
            weight = p.Blocks(Storage(shape, "u8", mapped=Mapped(file, memory, begin)), kind)
        for rows in (1, 4, 9):
            pipe = p.Pipeline(p.open_device("cpu", threads=2), rows=rows)
            chain = pipe.build(pipe.linear(pipe.input("x", (rows, groups * columns)), weight))
            assert np.isfinite(chain.run(x=np.ones((rows, groups * columns), np.float32))).all()

    folder, kind = sys.argv[1:]
    columns, size = BLOCKS.get(kind, (32, 16))
    for groups in (1, 9) if columns == 32 else (1, 3):
        print("reads", groups, flush=True)
        read(folder + "/" + str(groups), kind, columns, size, groups)
    print("read")
"""


@pytest.mark.parametrize("format, columns", NATIVE_BLOCKS)
def test_nothing_behind_a_matrix_is_read(native, tmp_path, format, columns):
    kind = next((kind for kind in BLOCKS if f"gguf_{kind.lower()}" == format), format)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(READ_TO_THE_END), tmp_path, kind], capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.endswith("read\n"), done.stdout + done.stderr
