"""The kernels of tests/msl/mistakes, and how each is run."""

from dataclasses import dataclass, field

import numpy as np

from support.checking import Empty, Same

F, U, I, H = np.float32, np.uint32, np.int32, np.float16


def random(count, dtype=F):
    return np.random.default_rng(count).standard_normal(count).astype(dtype)


def one(value, dtype=U):
    return np.array([value], dtype)


def line(count, threads=None):
    """A grid of `count` threads in a row."""
    return {"grid": (count, 1, 1), "threads": (threads or count, 1, 1)}


def groups(count, threads):
    return {"threadgroups": (count, 1, 1), "threads": (threads, 1, 1)}


@dataclass
class Case:
    """A kernel of a file and how to run it. `mistake`: the macro's value; `bound`: bytes, where not all of a buffer."""

    file: str
    kernel: str
    buffers: list
    sizes: dict
    mistake: int = 1
    bound: dict = field(default_factory=dict)

    def __str__(self):
        return f"{self.file}-{self.kernel}-{self.mistake}"


CASES = [
    Case("two_stage_reduction", "total", [random(512), Empty(4)], groups(4, 128), mistake) for mistake in (1, 2, 3)
] + [
    # Cases that published kernels get wrong.
    Case("routing_maximum", "route", [random(96), Empty(96), one(96)], line(96)),
    Case(
        "routing_exponentials", "route", [random(60), Empty(60), one(60)], line(64) | {"threadgroup_memory": {0: 512}}
    ),
    Case("scatter_by_expert", "count_tokens", [np.array([0, 1, 2, 7, 3, 8], U), np.zeros(8, U), one(8)], line(6)),
    Case("scatter_by_expert", "mark_tokens", [np.array([5, 1, 2, 5], U), Empty(8, U), one(8)], groups(4, 1)),
    Case("residual_norm", "norm_stashed", [random(8193), random(8193), Empty(8193), one(8193)], groups(1, 256)),
    Case("residual_norm", "norm_in_place", [random(256), random(256), Same(0), Empty(256), one(256)], groups(1, 64)),
    Case("residual_norm", "norm_rows", [random(384), Empty(384), one(128), one(3)], groups(4, 64)),
    Case(
        "inverse_cdf", "draw", [np.full(600, 1 / 600, F), Empty(600), Empty(1, U), one(600), one(0.5, F)], groups(1, 64)
    ),
    # Barriers.
    Case("barriers", "in_one_branch", [random(64), Empty(64)], line(64)),
    Case("barriers", "after_return", [random(100), Empty(100), one(100)], line(128)),
    Case("barriers", "in_a_loop", [np.array([3] * 32 + [4] * 32, U), Empty(64, U)], line(64)),
    Case("barriers", "of_a_simdgroup", [random(64), Empty(64)], line(64)),
    Case("barriers", "of_a_part", [random(64), Empty(64)], line(64)),
    Case("barriers", "of_other_memory", [random(64), Empty(64)], line(64)),
    Case("barriers", "of_no_memory", [random(64), Empty(64)], line(64)),
    # Bounds: of what is bound, though the buffer goes on; on both sides.
    Case("bounds", "beyond_the_binding", [random(100), np.zeros(128, F), one(60)], line(64), bound={0: 240, 1: 512}),
    Case("bounds", "below_the_binding", [random(64), Empty(64)], line(64)),
    Case("bounds", "tail_of_a_vector", [random(30), Empty(8), one(30)], line(8)),
    Case("bounds", "a_struct", [np.arange(32, dtype=U), Empty(16, U)], line(16)),
    Case("bounds", "threadgroup_argument", [random(64), Empty(64)], line(64) | {"threadgroup_memory": {0: 256}}),
    Case("bounds", "threadgroup_variable", [random(64), Empty(64)], line(64)),
    Case("bounds", "local_array", [np.arange(64, dtype=U), Empty(64, U)], line(64)),
    Case("bounds", "constant_table", [np.arange(8, dtype=U), Empty(8)], line(8)),
    # Memory.
    Case("memory", "unwritten_threadgroup_memory", [random(64), Empty(64), one(63)], line(64)),
    Case("memory", "unwritten_device_memory", [random(64), Empty(64)], line(64)),
    Case("memory", "half_a_word", [random(64, H), Empty(128, H), Empty(64, U)], line(64)),
    Case("memory", "through_a_cast", [random(64), Empty(64)], line(64)),
    Case("memory", "to_a_constant", [one(3), Empty(1, U)], line(1)),
    Case("memory", "of_four", [random(68), Empty(16)], line(16)),
    Case("memory", "of_an_integer", [np.arange(80, dtype=np.uint8), Empty(15, U)], line(15)),
    # Races.
    Case("races", "sum_of_all", [random(256), Empty(8), Empty(8)], groups(8, 32)),
    Case("races", "overlapping_rows", [random(101), Empty(801), one(100)], groups(8, 32)),
    Case("races", "last_writer_wins", [np.ones(64, F), np.zeros(64, U)], line(64)),
    Case("races", "bits_of_a_word", [np.ones(64, U), np.zeros(2, U)], line(64)),
    Case("races", "plain_beside_atomic", [one(0), Empty(64, U)], line(64)),
    Case("races", "shifted_in_place", [random(64)], line(64)),
    # Results.
    Case("results", "zero_by_zero", [np.zeros(8, F), Empty(8), one(8)], line(8)),
    Case("results", "root_of_a_difference", [np.linspace(0, 2, 8).astype(H), Empty(8, H)], line(8)),
    Case("results", "sum_by_atomics", [random(256), np.zeros(1, F), np.zeros(1, I)], line(256, 64)),
    Case(
        "results", "places_by_atomics", [np.arange(256, dtype=U) % 2, np.zeros(1, U), np.zeros(256, U)], line(256, 64)
    ),
    Case("results", "last_store", [one(0)], line(64)),
    Case("results", "waits_for_nobody", [one(0), Empty(64, U)], line(64)),
    Case("results", "waits_without_atomics", [one(0), Empty(1, U)], line(1)),
    Case("results", "of_an_inactive_lane", [random(64), Empty(64)], line(64)),
    Case("results", "of_a_lane_that_left", [random(60), Empty(60), one(60)], line(64)),
]
