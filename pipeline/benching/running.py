"""One benchmark from the command line: the model is opened, all sides are measured, the report is printed."""

from __future__ import annotations

import sys
from contextlib import ExitStack, closing
from pathlib import Path

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.opening import open_checkpoint
from ..cli.console import is_live
from ..device.device import Device, open_device
from ..errors import UsageError
from ..host import CUDA
from ..models.decoder import Decoder
from ..models.families import load_model
from . import bandwidth, llama_cpp, machine, report
from .options import MLX_WEIGHTS, Options
from .peer import LLAMA_CPP
from .peer_process import PeerProcess
from .plot import write_plot
from .shapes import Shape
from .steps import StepTimes, time_steps
from .traffic import Traffic, traffic
from .tune import tune
from .weights import ensure_checkpoint
from .workloads import Onebuf, Result, Side, Workload, check_fit, measure, workloads

__all__ = ["bench", "run"]

BUSY = 0.2  # cores that others use


def run(options: Options) -> None:
    """Measures, draws where that is asked for, and prints."""
    if options.tune:
        path = ensure_checkpoint(options.model, say) if isinstance(options.model, Shape) else options.model
        tune(options.device, options.threads, options.isa, path, options.kv_cache, options.repeats, _overwrite)
        return
    measured = bench(options)
    if options.plot is not None:
        write_plot(options.plot, measured.results, options.title, report.subtitle(measured))
    if options.json:
        print(report.to_json(measured), flush=True)
    else:
        report.show(measured)


def bench(options: Options) -> report.Report:
    """Measures the workloads that `options` ask for."""
    works = workloads(options)
    busy = machine.busy_cores()
    with ExitStack() as stack:
        device = open_device(options.device, threads=options.threads, isa=options.isa)
        peer = _start_peer(options, device)
        if peer is not None:
            stack.enter_context(closing(peer))
        checkpoint = stack.enter_context(open_checkpoint(_model_path(options, works)))
        model = load_model(checkpoint, device=device)
        check_fit(works, model.context, options.name)
        model.end_tokens = ()  # so that every text has its full length
        own = Onebuf(model, options.temperature, options.seed, options.kv_cache)
        stack.enter_context(closing(own))
        if peer is not None:
            peer.load(_peer_model(options, checkpoint), options.kv_cache)
        if busy is not None and busy > BUSY:
            say(
                f"warning: the machine is busy (others use {busy:.1f} cores); "
                "figures count only when it is otherwise idle"
            )
        reader = bandwidth.Reader(device)
        reader.measure()
        results, steps = _measure(options, works, own, peer, reader)
        active = traffic(model, options.kv_cache)
        return _report(options, model, checkpoint, reader.result, active, results, steps, peer, busy)


def _start_peer(options: Options, device: Device) -> PeerProcess | None:
    """The peer, which says whether it can run before anything large is written or loaded."""
    if options.peer is None:
        return None
    if device.name.partition(":")[0] not in ("cpu", CUDA):
        raise UsageError(f"--peer {options.peer}: is compared on cpu and cuda; give --device with one of them")
    return PeerProcess(options.peer, device)


def _peer_model(options: Options, checkpoint: Checkpoint) -> Path:
    """The file or folder that the peer loads. UsageError where transformers does not read weights of that kind."""
    if options.peer == LLAMA_CPP:
        return llama_cpp.model_file(checkpoint, say)
    if checkpoint.path.is_dir() and "quantization" in checkpoint.config:
        raise UsageError(f"--peer {options.peer}: {checkpoint.path} has {MLX_WEIGHTS}")
    return checkpoint.path


def _model_path(options: Options, works: list[Workload]) -> Path:
    """The model's folder or file; a shape's folder is written where it is not in the cache yet."""
    if not isinstance(options.model, Shape):
        return options.model
    check_fit(works, options.model.config["max_position_embeddings"], options.name)  # before much is written
    return ensure_checkpoint(options.model, say)


def _measure(
    options: Options, works: list[Workload], own: Onebuf, peer: Side | None, reader: bandwidth.Reader
) -> tuple[list[Result], list[StepTimes]]:
    results: list[Result] = []
    steps: list[StepTimes] = []
    sides: list[Side] = [own] if peer is None else [own, peer]
    for work in works:
        prompts = work.prompts(options.seed, own.model.vocab_size)
        measured = measure(sides, work, prompts, options.repeats, options.warmup, progress)
        results += measured
        reader.measure()  # again, because the machine may change meanwhile
        if options.steps and work.kind == "tg":
            steps.append(time_steps(own, work, prompts, work.batch / measured[0].median))
    progress(None, "", 0)
    return results, steps


def _report(
    options: Options,
    model: Decoder,
    checkpoint: Checkpoint,
    read: bandwidth.Bandwidth,
    active: Traffic,
    results: list[Result],
    steps: list[StepTimes],
    peer: PeerProcess | None,
    busy: float | None,
) -> report.Report:
    return report.Report(
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
            "hardware": machine.hardware(model.device),
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
        bandwidth=read,
        traffic=active,
        results=results,
        steps=steps,
        peer=None if peer is None else {"name": peer.name, **peer.engine},
    )


def say(line: str) -> None:
    """Announces work that takes long, or takes room, before it begins."""
    print(f"onebuf: {line}", file=sys.stderr, flush=True)


def progress(work: Workload | None, side: str, repeat: int) -> None:
    """Writes one line over the one before it, on a terminal only; without `work` it clears the line."""
    text = ""
    if work is not None:
        what = "warming up" if repeat < 0 else f"repeat {repeat + 1}"
        text = f"{side}: {work.label}, batch {work.batch}, {what}"
    _overwrite(text)


def _overwrite(text: str) -> None:
    if is_live(sys.stderr):
        print(f"\r{text}\x1b[K", end="", file=sys.stderr, flush=True)
