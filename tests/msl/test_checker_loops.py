"""Lanes of a simdgroup that part in loops meet as on a GPU: with those in the same turn of the same loops."""

import numpy as np
import pytest
from fuzz.loops import outcomes
from support.checking import Empty, Shaders

LANES = 32
# Each has `lane`, and writes y[lane].
KERNELS = {
    "waterfall": """
        bool done = false;
        while (!done) {
            uint first = simd_broadcast_first(x[lane]);
            if (x[lane] == first) {
                y[lane] = simd_sum(1u);
                done = true;
            }
        }""",
    "waterfall_with_break": """
        for (;;) {
            if (x[lane] == simd_broadcast_first(x[lane])) {
                y[lane] = simd_sum(1u);
                break;
            }
        }""",
    "continue_by_parity": """
        uint sum = 0;
        for (uint k = 0; k < 6; k++) {
            if ((k + lane) % 2) continue;
            sum += simd_sum(lane + 100 * k);
        }
        y[lane] = sum;""",
    "if_in_a_loop": """
        uint sum = 0;
        for (uint k = 0; k < 5; k++) {
            if (lane > 4 * k) sum += simd_sum(1u);
        }
        y[lane] = sum;""",
    "one_skipped_turn": """
        uint sum = 0;
        for (uint k = 0; k < 3; k++) {
            if (k == 1 && lane < 8) continue;
            sum = sum * 40 + simd_sum(1u);
        }
        y[lane] = sum;""",
    "switch_in_a_loop": """
        uint sum = 0;
        for (uint k = 0; k < 4; k++) {
            switch ((lane + k) % 3) {
            case 0: sum += simd_sum(1u); break;
            case 1: sum += 100 * simd_max(lane); break;
            default: break;
            }
        }
        y[lane] = sum;""",
    "cases_that_fall_through": """
        uint sum = 0;
        switch (lane % 4) {
        case 0: sum += simd_sum(1u);
        case 1: sum += 100 * simd_sum(1u); break;
        case 2: sum += simd_max(lane);
        default: sum += 10000 * simd_sum(1u);
        }
        y[lane] = sum;""",
    "prefix_sums_over_skipped_turns": """
        uint sum = 0;
        for (uint k = 0; k < 4; k++) {
            if (lane % (k + 2) == 0) sum += simd_prefix_exclusive_sum(k + 1);
        }
        y[lane] = sum;""",
    "different_numbers_of_turns": """
        uint sum = 0, k = 0;
        do sum += simd_sum(1u);
        while (++k < 1 + lane % 4);
        y[lane] = 1000 * sum + simd_sum(1u);""",
    "bodies_without_braces": """
        uint sum = 0, k = 0, array[3] = {0, 1, 2};
        for (uint v : array) if (lane > v * 8) sum += simd_sum(v + 1); else sum += 1;
        do do sum += simd_sum(1u); while (++k % 2 && lane % 2); while (k < 3 + lane % 3);
        while (uint left = 8 - k) if (k++ == lane % 4) break; else sum += 0 * left;
        y[lane] = sum + 1000 * simd_sum(1u);""",
    "nested": """
        uint sum = 0;
        for (uint k = 0; k < 3; k++) {
            uint n = 0;
            while (n++ < (lane + k) % 3) sum += simd_sum(1u);
            sum += 100 * (simd_ballot(lane % 2 == k % 2).any() ? simd_sum(1u) : 0);
        }
        y[lane] = sum;""",
    # A compiler moves the branch out of the loop's line, behind what follows it.
    "a_loop_of_one_turn": """
        uint a = lane, sum = 0, more = 0;
        for (uint k = 0; k < (0u & 3u) + 1; k++) {
            if (x[lane] == 2) continue;
            if (((lane ^ 5u) & 3u) == 1u)
                sum += ((0u >> 3u) & 1u) == 0u ? (more += uint(ulong(simd_vote::vote_t(simd_active_threads_mask()))))
                                               : (a ^= (a + lane));
            sum += simd_sum(1u);
        }
        y[lane] = sum & 0xFFFFFF;""",
    "branches_without_braces": """
        uint sum = 0;
        if (lane % 3 == 0) sum += simd_sum(1u);
        else if (lane % 3 == 1 && simd_any(lane == 4)) for (uint k = 0; k < lane % 2 + 1; k++) sum += simd_sum(10u);
        else if (simd_max(lane) == 29) sum += 7; else if (lane < 30) sum += simd_sum(2u);
        y[lane] = sum + 1000 * simd_sum(1u);""",
    "behind_each_turn": """
        uint sum = 0, k = 0;
        for (uint n = 0; n < 2; n++, sum += 1000 * simd_sum(1u)) {
            if (lane % 2 == n) continue;
            sum += simd_sum(1u);
        }
        do {
            if (lane < 16) continue;
            sum += simd_sum(1u);
        } while (k++ < simd_sum(1u) / 32);
        y[lane] = sum;""",
    "functions_that_return_early": """
        y[lane] = 1000 * early(lane) + apply([&](uint n) {
            if (n < 4) return simd_sum(n);
            return 100 + simd_sum(1u);
        }, lane) + 100000 * simd_sum(1u);""",
}
HELPERS = """
uint early(uint n) {
    if (n % 4 == 0) return simd_sum(1u);
    if (n % 4 == 1) n += simd_max(n);
    return simd_sum(2u) - n / 100;
}
template <typename F>
uint apply(F f, uint n) {
    uint sum = 0;
    if (n < 8) sum += f(n);
    return sum + 10000 * f(n + 8);
}
"""


def turns(count, there, give):
    """y of a loop: in turn k the lanes of there(k) each add give(k, those lanes)."""
    y = np.zeros(LANES, np.int64)
    for k in range(count):
        lanes = np.flatnonzero(there(k))
        y[lanes] += give(k, lanes)
    return y


def braces():
    """The loops over a range, and within one another, lane by lane and turn by turn."""
    sums = [0] * LANES
    for v in range(3):
        there = [lane for lane in range(LANES) if lane > v * 8]
        for lane in range(LANES):
            sums[lane] += len(there) * (v + 1) if lane in there else 1
    where = dict.fromkeys(range(LANES), 0)  # k of the lanes that are still in the outer loop
    while where:
        inner = list(where)
        while inner:
            for lane in inner:
                sums[lane] += len(inner)
                where[lane] += 1
            inner = [lane for lane in inner if where[lane] % 2 and lane % 2]
        where = {lane: k for lane, k in where.items() if k < 3 + lane % 3}
    return np.array(sums)


LANE = np.arange(LANES)
X = LANE * 7 % 5
EXPECTED = {
    "waterfall": np.bincount(X)[X],
    "waterfall_with_break": np.bincount(X)[X],
    "continue_by_parity": turns(6, lambda k: (k + LANE) % 2 == 0, lambda k, at: (at + 100 * k).sum()),
    "if_in_a_loop": turns(5, lambda k: LANE > 4 * k, lambda k, at: len(at)),
    "one_skipped_turn": np.where(LANE < 8, 32 * 40 + 32, (32 * 40 + 24) * 40 + 32),
    "switch_in_a_loop": turns(4, lambda k: (LANE + k) % 3 == 0, lambda k, at: len(at))
    + turns(4, lambda k: (LANE + k) % 3 == 1, lambda k, at: 100 * at.max()),
    "cases_that_fall_through": np.array([8 + 1600, 1600, 30 + 160000, 160000])[LANE % 4],
    "prefix_sums_over_skipped_turns": turns(
        4, lambda k: LANE % (k + 2) == 0, lambda k, at: np.arange(len(at)) * (k + 1)
    ),
    "different_numbers_of_turns": 1000 * turns(4, lambda k: LANE % 4 >= k, lambda k, at: len(at)) + 32,
    "bodies_without_braces": braces() + 32000,
    "a_loop_of_one_turn": np.where(X == 2, 0, 25 + (LANE % 4 == 0) * (1 + (1 << 4) + (1 << 8) + (1 << 12) + (1 << 20))),
    "branches_without_braces": np.array([11, 110, 7])[LANE % 3] + (LANE % 6 == 1) * 60 + 32000,
    "behind_each_turn": 64016 + 32 * (LANE >= 16),
    "functions_that_return_early": np.where(LANE % 4, 48000, 8000)
    + np.select([LANE < 4, LANE < 8], [6, 104], 0)
    + 4520000,
    "nested": sum(turns(2, lambda n, k=k: (LANE + k) % 3 > n, lambda n, at: len(at)) + 3200 for k in range(3)),
}
BARRIERS = """
kernel void in_other_turns(device uint *y [[buffer(0)]], uint i [[thread_index_in_threadgroup]]) {
    for (uint k = 0; k < 2; k++) {
        if (k == 0 && i < 8) continue;
        if (k == 1 && i >= 8) continue;
        threadgroup_barrier(mem_flags::mem_device);
    }
    y[i] = 1;
}
kernel void behind_other_turns(device uint *y [[buffer(0)]], uint i [[thread_index_in_threadgroup]]) {
    uint k = 0;
    while (k < i) k++;
    threadgroup_barrier(mem_flags::mem_device);
    for (uint n = 0; n < 2; n++) {
        for (uint m = 0; m < i % 4; m++) k++;
        threadgroup_barrier(mem_flags::mem_device);
    }
    y[i] = k;
}
"""


@pytest.fixture(scope="module")
def shaders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loops")
    head = "kernel void {}(device const uint *x [[buffer(0)]], device uint *y [[buffer(1)]],\n"
    head += "    uint lane [[thread_index_in_simdgroup]]) {{{}\n}}\n"
    text = "".join(head.format(name, body) for name, body in KERNELS.items()) + BARRIERS
    (folder / "loops.metal").write_text(f"#include <metal_stdlib>\nusing namespace metal;\n{HELPERS}{text}")
    return Shaders(folder, folder)


@pytest.mark.parametrize("kernel", KERNELS)
def test_lanes_meet_in_the_same_turn(shaders, kernel):
    sizes = {"threadgroups": (1, 1, 1), "threads": (LANES, 1, 1)}
    findings, (_, y) = shaders.run("loops", 0, kernel, [X.astype(np.uint32), Empty(LANES, np.uint32)], **sizes)
    assert findings == [] and y.tolist() == EXPECTED[kernel].tolist()


def test_a_barrier_in_different_turns_is_divergent(shaders):
    sizes = {"threadgroups": (1, 1, 1), "threads": (64, 1, 1)}
    findings, _ = shaders.run("loops", 0, "in_other_turns", [Empty(64, np.uint32)], **sizes)
    assert {each.kind for each in findings} == {"divergent barrier"}
    assert any("in different turns of a loop" in each.text for each in findings)
    findings, (y,) = shaders.run("loops", 0, "behind_other_turns", [Empty(64, np.uint32)], **sizes)
    assert findings == [] and y.tolist() == [i + 2 * (i % 4) for i in range(64)]


def test_random_kernels_give_what_lanes_in_lockstep_give(tmp_path):
    """Compilers lay out the cases of seeds 34 and 71 in another order than they have, and branches of 620 and 631."""
    assert [each for each in outcomes([*range(5), 34, 71, 620, 631], tmp_path) if each[1:] != (True, [])] == []
