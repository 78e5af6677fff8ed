"""Chooses the tests that compute-sanitizer runs: such that each kernel that is compiled ahead runs in two of them,
or in one where there is but one.

    FAKE_CUDA_IDLE=1 OB_CUDA_DRIVER=build/tests/metal/plain/fake_cuda.so PYTHONPATH=tests \\
        python -m pytest -n 2 -p support.sampled --kernels-to kernels.txt -k cuda tests/kernels
    python tests/support/gpu_sample.py kernels.txt     # writes tests/data/gpu_sample.txt and gpu_kernels.txt

The tests fail with a driver whose kernels do nothing; what they ask for is seen all the same. That takes some minutes.
"""

import collections
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "tests" / "data" / "gpu_sample.txt"
RUN = ROOT / "tests" / "data" / "gpu_kernels.txt"  # the kernels compiled ahead that these tests were seen to run
TIMES = 2


def kernels_of(path: Path) -> dict[str, set[str]]:
    """The kernels of each test, from the file of support/sampled.py."""
    kernels: dict[str, set[str]] = collections.defaultdict(set)
    for line in path.read_text().splitlines():
        test, names = line.split("\t")
        kernels[test] |= set(names.split())
    return kernels


def choose(kernels: dict[str, set[str]], hot: set[str]) -> list[str]:
    """Few tests; always the one that adds most, of equal ones that with the fewest kernels."""
    need = collections.Counter(dict.fromkeys(hot, TIMES))
    left, chosen = dict(sorted(kernels.items())), []
    while left:
        test = max(left, key=lambda test: (sum(need[name] > 0 for name in left[test] & hot), -len(left[test])))
        added = [name for name in left.pop(test) & hot if need[name] > 0]
        if not added:
            break
        chosen.append(test)
        need.subtract(added)
    return sorted(chosen)


def main() -> int:
    sys.path[:0] = [str(ROOT), str(ROOT / "tools")]
    import cuda_kernels

    kernels, hot = kernels_of(Path(sys.argv[1])), set(cuda_kernels.HOT)
    chosen = choose(kernels, hot)
    SAMPLE.write_text("".join(f"{test}\n" for test in chosen))
    RUN.write_text("".join(f"{name}\n" for name in sorted(hot & set().union(*(kernels[test] for test in chosen)))))
    missing = hot.difference(*kernels.values())
    print(*(f"{name}: no test runs it" for name in sorted(missing)), sep="\n")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
