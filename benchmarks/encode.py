"""Host cost of a run: encoding time a dispatch, and the time from commit to result of small chains.

python benchmarks/encode.py [--threads 2] [--repeats 200]
"""

import argparse
import statistics
import time

import numpy as np

import pipeline as p


def dependent_chain(device, length):
    """`length` dispatches, each reading what the one before wrote."""
    pipe = p.Pipeline(device, rows=1, label="dependent")
    x = pipe.input("x", (1, 16))
    for _ in range(length):
        x = pipe.rms_norm(x)
    chain = pipe.build(x)
    chain.run(x=np.ones((1, 16), np.float32))
    return chain


def median(values):
    return statistics.median(values)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=200)
    options = parser.parse_args()
    device = p.open_device(threads=options.threads)
    for length in (1, 101):
        chain, encode, times = dependent_chain(device, length), [], []
        for _ in range(options.repeats):
            start = time.perf_counter()
            run = chain.commit()
            run.wait()
            times.append(time.perf_counter() - start)
            encode.append(run.encode_seconds / length)
        print(
            f"{length:4} dependent dispatches: encoding {median(encode) * 1e9:6.0f} ns each, "
            f"commit to completion {median(times) * 1e6:7.1f} µs"
        )


if __name__ == "__main__":
    main()
