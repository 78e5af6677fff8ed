"""Damaged headers of safetensors and GGUF files, configurations of other libraries' weights, and damaged files of
SentencePiece and of llama.cpp's importance: each gives a clear error or loads right.

    python tests/fuzz/headers.py                     100,000 of each kind, some minutes
    python tests/fuzz/headers.py gguf --only 4711    the one that was reported

A crash, a hang, memory beyond the file's size, an error of another kind or a tensor outside its file ends the run with
the number of the mutation; the file itself stays where the last line says.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[n]) for n in (1, 2)]

from fuzz import mutations, packed, pieces, seeds  # noqa: E402
from pipeline.errors import CheckpointError, PromptError  # noqa: E402

SECONDS = 5  # of the processor, for one file; a mutation takes a millisecond
SLACK_BYTES = 400_000  # for one file: what Python takes for the few objects of a small header
READ_BYTES = 1 << 20  # what such a file, which is read whole, is read into


class Hang(Exception):
    """A file took too long."""


def damaged_safetensors(number: int) -> bytes:
    if number % 2:
        return mutations.mutated_bytes([seeds.safetensors(seeds.SAFETENSORS)], number)
    return seeds.safetensors(mutations.mutated_json(seeds.SAFETENSORS, number))


def damaged_gguf(number: int) -> bytes:
    if number % 2:
        return mutations.mutated_bytes(seeds.GGUF, number)
    return mutations.mutated_gguf(seeds.GGUF_PARTS, number)


def check_safetensors(file: Path) -> None:
    from pipeline.checkpoints.safetensors import DTYPE_BITS, read_header

    header = read_header(file)
    position = header.data_offset
    for tensor in sorted(header.tensors.values(), key=lambda t: (t.offset, t.nbytes)):
        assert tensor.offset == position and tensor.nbytes * 8 == _count(tensor.shape) * DTYPE_BITS[tensor.dtype]
        position += tensor.nbytes
    assert position == header.size == file.stat().st_size


def check_gguf(file: Path) -> None:
    from pipeline.checkpoints.gguf.values import Array
    from pipeline.checkpoints.opening import open_checkpoint

    with open_checkpoint(file) as checkpoint:
        end = 0
        for tensor in sorted(checkpoint.tensors.values(), key=lambda t: (t.offset, t.nbytes)):
            assert end <= tensor.offset and tensor.offset + tensor.nbytes <= file.stat().st_size
            assert checkpoint.raw(tensor.name).nbytes == tensor.nbytes
            end = tensor.offset + tensor.nbytes
        for value in checkpoint.metadata.values():
            if isinstance(value, Array):
                assert sum(1 for _ in value) == len(value)
        ends = [*checkpoint.end_tokens, *([] if checkpoint.bos_token is None else [checkpoint.bos_token])]
        tokenizer = checkpoint.tokenizer()
        try:
            ids = tokenizer.encode("abcd \n日")
        except PromptError:  # a damaged vocabulary may know none of it
            ids = ()
        assert all(0 <= token < tokenizer.vocab_size for token in (*ends, *ids)) and isinstance(
            tokenizer.decode(ids), str
        )


def damaged_pieces(number: int) -> bytes:
    return mutations.mutated_bytes([pieces.pieces(1), pieces.pieces(2)], number)


def damaged_importance(number: int) -> bytes:
    return mutations.mutated_bytes([pieces.imatrix(), pieces.imatrix_gguf()], number)


KINDS = {
    "safetensors": (damaged_safetensors, check_safetensors),
    "gguf": (damaged_gguf, check_gguf),
    "packed": (packed.damaged, packed.check),
    "pieces": (damaged_pieces, pieces.check_pieces),
    "imatrix": (damaged_importance, pieces.check_importance),
}
SEEDS = {
    "safetensors": lambda: [seeds.safetensors(seeds.SAFETENSORS)],
    "gguf": lambda: seeds.GGUF,
    "packed": packed.seeds,
    "pieces": lambda: [pieces.pieces(1), pieces.pieces(2)],
    "imatrix": lambda: [pieces.imatrix(), pieces.imatrix_gguf()],
}


def check(kind: str, number: int, folder: Path) -> str:
    """Runs one mutation; "" where it loads, else the error's text. Whatever must not be raises."""
    damage, load = KINDS[kind]
    content = damage(number)
    file = folder / f"damaged.{kind}"
    file.write_bytes(content)
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    try:
        load(file)
        text = ""
    except CheckpointError as error:
        text = str(error)
        assert str(file) in text and "\n" not in text and len(text) < 600, f"unclear: {text!r}"
    grown = tracemalloc.get_traced_memory()[1] - before
    slack = SLACK_BYTES + (READ_BYTES if kind in ("pieces", "imatrix") else 0)
    assert grown <= len(content) + slack, f"{grown:,} bytes of memory for a file of {len(content):,}"
    return text


def run(kind: str, numbers, folder: Path) -> dict[str, int]:
    """Checks all `numbers`; how many loaded and how many were refused. The first failure raises, with its number."""

    def hang(*_):
        raise Hang(f"more than {SECONDS} s")

    counts = {"loaded": 0, "refused": 0}
    _warm_up(kind, folder)
    earlier = signal.signal(signal.SIGPROF, hang)
    tracemalloc.start()
    try:
        for number in numbers:
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            try:
                counts["refused" if check(kind, number, folder) else "loaded"] += 1
            except BaseException as error:
                error.add_note(f"mutation {number} of {kind}")
                raise
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, earlier)
        tracemalloc.stop()
    return counts


def _warm_up(kind: str, folder: Path) -> None:
    """The undamaged files load, and what loading imports is not counted as theirs."""
    file = folder / f"damaged.{kind}"
    for content in SEEDS[kind]():
        file.write_bytes(content)
        KINDS[kind][1](file)


def _count(shape) -> int:
    count = 1
    for extent in shape:
        count *= extent
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], metavar="KIND", help=" or ".join(KINDS))
    parser.add_argument("--runs", type=int, default=100_000, help="mutations of each kind (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first one's number")
    parser.add_argument("--only", type=int, help="one mutation, and what comes of it")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="onebuf-fuzz-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    for kind in options.kinds or KINDS:
        print(f"{kind}: the file at hand is {folder}/damaged.{kind}", flush=True)
        if options.only is not None:
            _warm_up(kind, folder)
            tracemalloc.start()
            print(check(kind, options.only, folder) or "loaded")
            continue
        start = time.perf_counter()
        counts = run(kind, range(options.first, options.first + options.runs), folder)
        seconds = time.perf_counter() - start
        print(f"{kind}: {counts['loaded']:,} loaded, {counts['refused']:,} refused with a clear error, {seconds:.0f} s")
        (folder / f"damaged.{kind}").unlink()
    if options.only is None:
        folder.rmdir()


if __name__ == "__main__":
    main()
