"""Simdgroup and quadgroup functions on the checker against NumPy: in full, partial and divergent simdgroups."""

import numpy as np
import pytest
from support import cuda_on_checker
from support.axes import pairs
from support.checking import Empty, Shaders

from pipeline.metalc import toolchain

LANES = 32
U, I, F = np.uint32, np.int32, np.float32

REDUCTIONS = {
    "sum": np.sum,
    "product": np.prod,
    "min": np.min,
    "max": np.max,
    "and": np.bitwise_and.reduce,
    "or": np.bitwise_or.reduce,
    "xor": np.bitwise_xor.reduce,
}
PREFIXES = {
    "prefix_inclusive_sum": (np.cumsum, None),
    "prefix_exclusive_sum": (np.cumsum, 0),
    "prefix_inclusive_product": (np.cumprod, None),
    "prefix_exclusive_product": (np.cumprod, 1),
}
# Where each lane takes its value from, in a group of `n` lanes; what stays out of it keeps its own.
SHUFFLES = {
    "broadcast": ("3", lambda lane, n: np.full_like(lane, 3)),
    "shuffle": ("(lane * 3 + 1) % {n}", lambda lane, n: (lane * 3 + 1) % n),
    "shuffle_xor": ("2", lambda lane, n: lane ^ 2),
    "shuffle_up": ("2", lambda lane, n: np.where(lane < 2, lane, lane - 2)),
    "shuffle_down": ("1", lambda lane, n: np.where(lane + 1 >= n, lane, lane + 1)),
    "shuffle_rotate_up": ("3", lambda lane, n: (lane - 3) % n),
    "shuffle_rotate_down": ("3", lambda lane, n: (lane + 3) % n),
}
GROUPS = {"simd": LANES, "quad": 4}
MATRICES = {"hh": ("half", "half"), "bb": ("bfloat", "bfloat"), "ff": ("float", "float"), "fh": ("float", "half")}


def source() -> str:
    """For each function a kernel in which the lanes with `take[i]` call it; the others give 99."""
    kernels = []
    for group, width in GROUPS.items():
        calls = {f"{group}_{name}": f"{group}_{name}(v)" for name in (*REDUCTIONS, *PREFIXES, "broadcast_first")}
        calls |= {
            f"{group}_{name}": f"{group}_{name}(v, {argument.format(n=width)})"
            for name, (argument, _) in SHUFFLES.items()
        }
        calls |= {
            f"{group}_ballot": f"T(ulong(simd_vote::vote_t({group}_ballot(int(v) % 2 == 0))))",
            f"{group}_all": f"T({group}_all(int(v) > 1))",
            f"{group}_any": f"T({group}_any(int(v) > 5))",
            f"{group}_is_first": f"T({group}_is_first())",
            f"{group}_fill_up": f"{group}_shuffle_and_fill_up(v, T(v + 100), 2)",
            f"{group}_fill_down": f"{group}_shuffle_and_fill_down(v, T(v + 100), 1)",
        }
        for name, call in calls.items():
            kind = "simd" if group == "simd" else "quad"
            for suffix, metal in (("u", "uint"), ("i", "int"), ("f", "float")):
                if suffix == "f" and name in [f"{group}_{bitwise}" for bitwise in ("and", "or", "xor")]:
                    continue
                kernels.append(
                    f"kernel void {name}_{suffix}(device const {metal} *x [[buffer(0)]],\n"
                    f"    device {metal} *y [[buffer(1)]], device const uint *take [[buffer(2)]],\n"
                    f"    uint i [[thread_position_in_grid]], uint lane_ [[thread_index_in_{kind}group]]) {{\n"
                    f"    using T = {metal}; {metal} v = x[i]; ushort lane = ushort(lane_); (void)lane;\n"
                    f"    if (take[i]) y[i] = T({call}); else y[i] = T(99);\n}}\n"
                )
    for name, (left, right) in MATRICES.items():
        kernels.append(
            f"kernel void matrix_{name}(device const float *a [[buffer(0)]], device const float *b [[buffer(1)]],\n"
            f"    device float *d [[buffer(2)]], device float *own [[buffer(3)]],\n"
            f"    uint lane [[thread_index_in_simdgroup]]) {{\n"
            f"    threadgroup {left} left[64]; threadgroup {right} right[64];\n"
            f"    for (uint i = lane; i < 64; i += 32) {{ left[i] = {left}(a[i]); right[i] = {right}(b[i]); }}\n"
            f"    simdgroup_barrier(mem_flags::mem_threadgroup);\n"
            f"    simdgroup_matrix<{left}, 8> x; simdgroup_load(x, left, 8);\n"
            f"    simdgroup_matrix<{right}, 8> y; simdgroup_load(y, right, 8, 0, true);\n"
            f"    simdgroup_matrix<float, 8> z(2.0f); simdgroup_multiply_accumulate(z, x, y, z);\n"
            f"    simdgroup_store(z, d, 8);\n"
            f"    own[2 * lane] = z.thread_elements()[0]; own[2 * lane + 1] = z.thread_elements()[1];\n}}\n"
        )
    return "#include <metal_stdlib>\nusing namespace metal;\n" + "".join(kernels)


@pytest.fixture(scope="module", params=["checker", "cuda"])
def shaders(request, tmp_path_factory):
    """The checker's own functions, and those for CUDA, whose instructions the checker's engine plays."""
    folder = tmp_path_factory.mktemp("simd")
    (folder / "simd.metal").write_text(source())
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "cuda":
            made = cuda_on_checker.headers(folder / "headers")
            patch.setattr(toolchain, "checker_dir", lambda: made)
        shaders = Shaders(folder, folder)
        shaders.library("simd", 0)
    return shaders


# Which of the 72 threads take part: two full simdgroups and one of 8 lanes.
TAKES = {
    "full": np.ones(72, bool),
    "divergent": np.arange(72) % 3 != 1,
    "half": np.arange(72) % LANES < 16,
    "one": np.arange(72) % LANES == 5,
}
DTYPES = {"u": U, "i": I, "f": F}


def expected(group, take, x, function):
    """`function(values, lanes, n)` of the lanes of each group that take part; 99 for the others."""
    y = np.full_like(x, 99)
    for start in range(0, len(x), GROUPS[group]):
        lanes = np.flatnonzero(take[start : start + GROUPS[group]])
        if len(lanes):
            y[start + lanes] = function(x[start + lanes], lanes)
    return y


def check(shaders, name, suffix, take, function, kinds=()):
    x = np.random.default_rng(3).integers(1, 8, 72).astype(DTYPES[suffix])
    found, (_, y, _) = shaders.run(
        "simd", 0, f"{name}_{suffix}", [x, Empty(72, x.dtype), take.astype(U)], grid=(72, 1, 1), threads=(72, 1, 1)
    )
    assert {each.kind for each in found} <= set(kinds), "\n\n".join(map(str, found))
    with np.errstate(over="ignore"):
        return x, y, expected(name.split("_")[0], take, x, function)


@pairs("group, suffix, lanes", GROUPS, DTYPES, TAKES)
def test_reductions(shaders, group, suffix, lanes):
    take = TAKES[lanes]
    for name, reduce in REDUCTIONS.items():
        if suffix == "f" and name in ("and", "or", "xor"):
            continue
        _, y, want = check(
            shaders, f"{group}_{name}", suffix, take, lambda v, lanes, reduce=reduce: reduce(v).astype(v.dtype)
        )
        assert np.allclose(y, want, rtol=1e-5) if suffix == "f" else np.array_equal(y, want), name


@pairs("group, suffix, lanes", GROUPS, DTYPES, TAKES)
def test_prefixes(shaders, group, suffix, lanes):
    take = TAKES[lanes]
    for name, (scan, first) in PREFIXES.items():

        def function(values, lanes, scan=scan, first=first):
            result = scan(values, dtype=values.dtype)
            return result if first is None else np.concatenate([[first], result[:-1]])

        _, y, want = check(shaders, f"{group}_{name}", suffix, take, function)
        assert np.allclose(y, want, rtol=1e-5) if suffix == "f" else np.array_equal(y, want), name


@pytest.mark.parametrize("take", TAKES.values(), ids=TAKES)
@pytest.mark.parametrize("group", GROUPS)
def test_shuffles(shaders, group, take):
    """A lane whose source takes part has its value; one whose source does not is found, and its value is anyone's."""
    for name, (_, source_of) in SHUFFLES.items():
        for suffix in DTYPES:
            _, y, want = check(shaders, f"{group}_{name}", suffix, take, lambda v, lanes: v, ["inactive lane"])
            x, n = want.copy(), GROUPS[group]
            for start in range(0, 72, n):
                lane = np.arange(min(n, 72 - start))
                source = source_of(lane, n)
                known = take[start + lane] & (source < len(lane)) & take[start + np.minimum(source, len(lane) - 1)]
                assert np.array_equal(y[start + lane[known]], x[start + source[known]]), (name, suffix)
            assert np.array_equal(y[~take], np.full((~take).sum(), 99))


@pytest.mark.parametrize("group", GROUPS)
def test_fills(shaders, group):
    n = GROUPS[group]
    for name, function in (
        ("fill_up", lambda v, lanes: np.concatenate([v[-2:] + 100, v[:-2]])),
        ("fill_down", lambda v, lanes: np.concatenate([v[1:], v[:1] + 100])),
    ):
        take = np.arange(72) < 64
        for suffix in DTYPES:
            _, y, want = check(shaders, f"{group}_{name}", suffix, take, function)
            assert np.array_equal(y, want), (name, n)


@pytest.mark.parametrize("take", TAKES.values(), ids=TAKES)
@pytest.mark.parametrize("group", GROUPS)
def test_votes(shaders, group, take):
    votes = {
        "ballot": lambda v, lanes: sum(1 << int(lane) for lane, value in zip(lanes, v) if value % 2 == 0),
        "all": lambda v, lanes: np.all(v > 1),
        "any": lambda v, lanes: np.any(v > 5),
        "is_first": lambda v, lanes: lanes == lanes[0],
        "broadcast_first": lambda v, lanes: v[0],
    }
    for name, function in votes.items():
        _, y, want = check(shaders, f"{group}_{name}", "u", take, function)
        assert np.array_equal(y, want), name


@pytest.mark.parametrize("name", MATRICES)
def test_matrices(shaders, name):
    """2 I + A Bᵀ of small integers, which every type holds; each lane has the elements that it has on Apple's GPUs."""
    a, b = np.random.default_rng(7).integers(-9, 10, (2, 8, 8)).astype(F)
    found, (_, _, d, own) = shaders.run(
        "simd", 0, f"matrix_{name}", [a, b, Empty(64), Empty(64)], grid=(32, 1, 1), threads=(32, 1, 1)
    )
    assert not found
    want = 2 * np.eye(8) + a @ b.T
    assert np.array_equal(d.reshape(8, 8), want)
    lane = np.arange(LANES)
    row, column = (lane // 4 & 4) + lane // 2 % 4, (lane // 4 & 2) * 2 + lane % 2 * 2
    assert np.array_equal(own.reshape(LANES, 2), np.stack([want[row, column], want[row, column + 1]], axis=1))
