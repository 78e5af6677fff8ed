"""Kernels without a mistake, close as they look to one: the checker has nothing to say, and results are right."""

import numpy as np
import pytest
from support.checking import Empty, Shaders
from support.control_flow import Program

F, U, H = np.float32, np.uint32, np.float16


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    shaders = Shaders(tmp_path_factory.mktemp("clean"))

    def run(kernel, buffers, grid, threads, **sizes):
        triple = lambda size: (*size, *[1] * (3 - len(size))) if isinstance(size, tuple) else (size, 1, 1)  # noqa: E731
        found, held = shaders.run("clean", 0, kernel, buffers, grid=triple(grid), threads=triple(threads), **sizes)
        assert not found, "\n\n".join(map(str, found))
        return held

    return run


def numbers(count, dtype=F):
    return np.random.default_rng(count).integers(-50, 50, count).astype(dtype)


def one(value, dtype=U):
    return np.array([value], dtype)


@pytest.mark.parametrize("threads", [1, 31, 33, 100, 1024])
def test_threadgroups_of_any_size(clean, threads):
    """Two-stage sums whose slots are used twice, and atomics in threadgroup and device memory."""
    rows = 3
    x = numbers(rows * 500)
    assert np.array_equal(
        clean("total", [x, Empty(rows), one(500)], rows * threads, threads)[1], x.reshape(rows, 500).sum(1)
    )
    x = np.arange(700, dtype=U) * 7 % 31
    _, counts, _ = clean("histogram", [x, np.zeros(16, U), one(700)], 1024, threads)
    assert np.array_equal(counts, np.bincount(x % 16, minlength=16))


def test_atomics(clean):
    x = np.abs(numbers(200)) + 0.5
    _, bits = clean("largest_by_exchange", [x, one(0)], 200, 50)
    assert bits.view(F)[0] == x.max()


@pytest.mark.parametrize("threads", [32, 48, 96])
def test_simdgroup_functions_in_divergent_branches(clean, threads):
    x = numbers(96, np.int32)
    y = clean("reduced_in_branches", [x, Empty(96, np.int32)], 96, threads)[1]
    for first in range(0, 96, threads):
        for start in range(first, first + threads, 32):
            lanes = slice(start, min(start + 32, first + threads))
            assert np.array_equal(y[lanes], branches(x[lanes]))


def branches(x):
    lane = np.arange(len(x))
    value = np.where(lane % 3 == 0, x[lane % 3 == 0].sum(), np.where(lane % 3 == 1, x[lane % 3 == 1].max(), x))
    positive = value > 0
    value[positive] = value[positive][0] if positive.any() else 0
    return value + np.maximum(lane % 4 - 2, 0) * (lane.max() % 4 >= 0)


def test_what_a_thread_wrote_itself(clean):
    x = numbers(300)
    held = clean("own_places", [x, Empty(300)], 300, 256)
    assert np.array_equal(held[0], x + 1) and np.array_equal(held[1], x + 1)


def test_parts_of_words(clean):
    x = np.arange(250, dtype=U)
    _, octets, halves, y = clean(
        "parts_of_words", [x, Empty(250, np.uint8), Empty(250, np.uint16), Empty(250, U)], 250, 125
    )
    assert np.array_equal(octets, x) and np.array_equal(halves, x)
    assert np.array_equal(y, x.reshape(2, 125)[:, ::-1].reshape(-1))
    x = np.arange(64, dtype=np.uint8)[::-1].copy()
    assert np.array_equal(clean("bytes_beside_writes", [x, Empty(32, U)], 64, 32)[1], x[1::2])


def test_barriers_in_uniform_control_flow(clean):
    rows, n, threads = 3, 70, 32
    x = numbers(rows * n)
    y = clean("barriers_in_loops", [x, Empty(rows * threads), one(n)], rows * threads, threads)[1].reshape(
        rows, threads
    )
    sums = x.reshape(rows, n).sum(1)[:, None] * np.arange(1, threads + 1)
    assert np.array_equal(y, np.where(np.arange(rows)[:, None] % 2 == 0, sums[:, ::-1], sums))
    x = numbers(8)
    expected = x.copy()
    for k, factor in enumerate([1, 0.5, 2, 1]):
        expected = np.roll(expected, -1) * F(factor) + F(2**k)
    assert np.array_equal(clean("turns", [x, np.array([1, 0.5, 2, 1], F)], 8, 8)[0], expected)


def test_barriers_of_a_simdgroup(clean):
    x = np.arange(128, dtype=U)
    assert np.array_equal(
        clean("within_a_simdgroup", [x, Empty(128, U)], 128, 64)[1], x.reshape(4, 32)[:, ::-1].reshape(-1)
    )


@pytest.mark.parametrize(
    "grid, threads",
    [
        ((7,), (3,)),
        ((10, 7), (4, 3)),
        ((33, 5), (32, 2)),
        ((5, 6, 7), (2, 4, 3)),
        ((4, 4, 4), (4, 4, 4)),
        ((1, 1, 9), (1, 1, 4)),
    ],
)
def test_grids_whose_edges_do_not_fill_a_threadgroup(clean, grid, threads):
    x, y, z = (*grid, *[1] * (3 - len(grid)))
    at = np.indices((z, y, x))
    held = clean("positions", [Empty(x * y * z, U)], grid, threads)[0]
    assert np.array_equal(held.reshape(z, y, x), at[2] + 100 * at[1] + 10000 * at[0])


def test_a_transpose(clean):
    x = numbers(40 * 23)
    y = clean("transposed", [x, Empty(40 * 23), np.array([40, 23], U)], (48, 32), (16, 16))[1]
    assert np.array_equal(y.reshape(40, 23), x.reshape(23, 40).T)


def test_packed_types(clean):
    x = numbers(30)
    _, y, z = clean("packed", [x, Empty(30), Empty(40, H)], 10, 10)
    assert np.array_equal(y.reshape(10, 3), 2 * x.reshape(10, 3)[:, ::-1])
    assert np.array_equal(z.reshape(10, 4)[:, :3], x.reshape(10, 3).astype(H))


def test_nan_from_what_is_not_finite(clean):
    x = np.array([1, np.inf, np.nan, -np.inf], F)
    assert np.array_equal(np.isnan(clean("not_finite", [x, Empty(4)], 4, 4)[1]), [False, True, True, True])


def test_threads_that_leave_before_no_barrier(clean):
    x = np.ones(70, F)
    y = clean("left_early", [x, Empty(70), one(70)], 192, 64)[1]
    assert np.array_equal(y, [33] * 64 + [7] * 6)


def test_random_branches_around_simdgroup_functions(tmp_path):
    """Lanes that part at a branch, a break or a call go on together where these end."""
    programs = [Program(seed) for seed in range(60)]
    text = "".join(program.text() for program in programs)
    (tmp_path / "programs.metal").write_text(f"#include <metal_stdlib>\nusing namespace metal;\n{text}")
    shaders = Shaders(tmp_path, tmp_path)
    for program in programs:
        found, (held,) = shaders.run("programs", 0, program.name, [Empty(32, U)], grid=(32, 1, 1), threads=(32, 1, 1))
        assert not found and held.tolist() == program.run(), program.text()
