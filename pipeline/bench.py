"""`python -m pipeline.bench`: how fast a model runs, beside what the machine can read and beside llama.cpp.

docs/benchmarks.md describes it. Every error raised on purpose ends here as one line on standard error.
"""

import sys
from contextlib import ExitStack, closing

from .cli.program import BAD_INPUT, guarded, open_streams

OK = 0
BUSY = 0.2  # cores that others use
__all__ = ["BAD_INPUT", "OK", "main"]


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    return guarded(lambda: _main(arguments))


def _main(arguments: list[str] | None) -> int:
    from .benching import report
    from .benching.options import parse_options
    from .benching.plot import write_plot

    open_streams()
    options = parse_options(arguments)
    measured = bench(options)
    if options.plot is not None:
        write_plot(options.plot, measured.results, options.title, report.subtitle(measured))
    if options.json:
        print(report.to_json(measured), flush=True)
    else:
        report.show(measured)
    return OK


def bench(options):
    """Measures what `options` ask for; returns a benching.report.Report."""
    from .benching import peer, workloads
    from .benching.bandwidth import Reader
    from .benching.machine import busy_cores
    from .benching.traffic import traffic
    from .checkpoints.opening import open_checkpoint
    from .device.device import open_device
    from .models import load_model

    works = workloads.workloads(options)
    busy = busy_cores()
    with ExitStack() as stack:
        device = open_device(options.device, threads=options.threads, isa=options.isa)
        _check_peer_device(options, device)
        checkpoint = stack.enter_context(open_checkpoint(_model_path(options, works)))
        model = load_model(checkpoint, device=device)
        workloads.check_fit(works, model.context, options.name)
        model.end_tokens = ()  # so that every text has its full length
        sides = [workloads.Onebuf(model, options.temperature, options.seed, options.kv_cache)]
        if options.peer is not None:
            sides.append(peer.LlamaCpp(peer.model_file(checkpoint, say), device.threads, options.kv_cache))
        for side in sides:
            stack.enter_context(closing(side))
        if busy is not None and busy > BUSY:
            say(
                f"warning: the machine is busy (others use {busy:.1f} cores); figures count only when it is otherwise idle"
            )
        reader = Reader(device)
        reader.measure()
        results, steps = _measure(options, works, sides, model.vocab_size, reader)
        active = traffic(model, options.kv_cache)
        return _report(options, model, checkpoint, reader.result, active, results, steps, sides, busy)


def _check_peer_device(options, device) -> None:
    from .errors import UsageError

    if options.peer is not None and device.name != "cpu":
        raise UsageError(f"--peer {options.peer}: is compared on the CPU only; give --device cpu")


def _model_path(options, works):
    """The model's folder or file; a shape's folder is written where it is not in the cache yet."""
    from .benching.shapes import Shape
    from .benching.weights import ensure_checkpoint
    from .benching.workloads import check_fit

    if not isinstance(options.model, Shape):
        return options.model
    check_fit(works, options.model.config["max_position_embeddings"], options.name)  # before much is written
    return ensure_checkpoint(options.model, say)


def _measure(options, works, sides, vocab: int, reader):
    from .benching.steps import time_steps
    from .benching.workloads import measure

    results, steps = [], []
    for work in works:
        prompts = work.prompts(options.seed, vocab)
        measured = measure(sides, work, prompts, options.repeats, options.warmup, progress)
        results += measured
        reader.measure()  # again, in case the machine changes meanwhile
        if options.steps and work.kind == "tg":
            steps.append(time_steps(sides[0], work, prompts, work.batch / measured[0].median))
    progress(None, "", 0)
    return results, steps


def _report(options, model, checkpoint, bandwidth, active, results, steps, sides, busy):
    from .benching.machine import hardware
    from .benching.report import Report

    return Report(
        model={
            "name": options.name,
            "layers": model.config.layers,
            "vocab": model.vocab_size,
            "bytes": checkpoint.nbytes,
            "mapped_bytes": model.mapped_bytes,
            "repacked_bytes": model.repacked_bytes,
        },
        device={
            "name": model.device.name,
            "hardware": hardware(model.device),
            "isa": model.device.isa,
            "threads": model.device.threads,
            "busy_cores": busy,
        },
        settings={
            "repeats": options.repeats,
            "warmup": options.warmup,
            "seed": options.seed,
            "temperature": options.temperature,
            "kv_cache": options.kv_cache,
        },
        bandwidth=bandwidth,
        traffic=active,
        results=results,
        steps=steps,
        peer={"name": sides[1].name, **sides[1].engine} if len(sides) > 1 else None,
    )


def say(line: str) -> None:
    """What takes long, or takes room, is told before it begins."""
    print(f"onebuf: {line}", file=sys.stderr, flush=True)


def progress(work, side: str, repeat: int) -> None:
    """One line that is written over, on a terminal only."""
    from .cli.console import is_live

    if not is_live(sys.stderr):
        return
    text = (
        ""
        if work is None
        else f"{side}: {work.label}, batch {work.batch}, " + ("warming up" if repeat < 0 else f"repeat {repeat + 1}")
    )
    print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
