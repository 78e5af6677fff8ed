"""Generation: prompts in, tokens out, every decoded token of a batch one command buffer.

    requests ─▶ prefill (prompt chunks, no head) ─▶ decode (sample on device, 8 bytes a row) ─▶ events
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from .builder import Pipeline
from .chain import Chain
from .errors import PromptError, UsageError
from .models import load_model
from .models.state import Rows
from .native import _core
from .sampler import Features, Sampler
from .sampling import Sampling, check
from .tensors import CACHE_DTYPES

__all__ = ["Failed", "Finished", "Generator", "Prefilled", "Request", "Stats", "Token", "TraceEvent", "load_model"]

# Tokens of prompts that go through together. An expert's weights are read once for all of its rows, so
# many are worth it; halved until the chain's scratch, most of it the experts' products, takes no more.
PREFILL_ROWS = 512
PREFILL_SCRATCH = 64 << 20


@dataclass(frozen=True)
class Request:
    """A prompt to continue. temperature ≤ 0 is greedy; seed is that row's own, up to 64 bits; sampling
    has its other settings, the default all off. UsageError names a number that is impossible.

    ends: called with each generated token, in order; the row ends with the one for which it is true.
    """

    index: int
    tokens: tuple[int, ...]
    max_tokens: int
    temperature: float = 0.0
    seed: int = 0
    sampling: Sampling = Sampling()
    ends: Callable[[int], bool] | None = None

    def __post_init__(self):
        for name in ("max_tokens", "temperature", "seed"):
            check(name, getattr(self, name))


@dataclass(frozen=True)
class Prefilled:
    """`tokens` more of a prompt went through: `done` of `total`."""

    index: int
    tokens: int
    done: int
    total: int


@dataclass(frozen=True)
class Token:
    """One generated token and its log-probability under the model (temperature 1, no filters).

    top: (token, log-probability) of the largest under the model, as many as the row asks for.
    """

    index: int
    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Finished:
    """A row is complete; reason is "stop" (an end token, or `Request.ends`) or "length" (max_tokens or the context).

    top: of each token, as in :class:`Token`; empty where the row asks for none.
    """

    index: int
    tokens: list[int]
    logprobs: list[float]
    reason: str
    top: list[tuple[tuple[int, float], ...]] = field(default_factory=list)


@dataclass(frozen=True)
class Failed:
    """A row that cannot go on, and why."""

    index: int
    error: str


@dataclass(frozen=True)
class TraceEvent:
    """One dispatch of one decode step; times in seconds of the device's clock."""

    name: str
    step: str
    start_seconds: float
    end_seconds: float
    command_buffer: int


@dataclass
class Stats:
    """What a run cost. Decode counts only what decoding did."""

    prompt_tokens: int = 0
    generated_tokens: int = 0
    prefill_seconds: float = 0.0
    decode_seconds: float = 0.0
    decode_tokens: int = 0     # rows × steps
    decode_steps: int = 0
    command_buffers: int = 0   # counted at the device's queue
    readback_bytes: int = 0
    expert_counts: object = None   # np.ndarray [layers, experts]: how often each was chosen


@dataclass
class _Sequence:
    request: Request
    slot: int
    done: int = 0       # prompt tokens that went through
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top: list = field(default_factory=list)

    @property
    def before_last(self) -> int:
        """Prompt tokens to prefill: the last one is the first decode step's input."""
        return len(self.request.tokens) - 1

    def finished(self, reason: str) -> Finished:
        return Finished(self.request.index, self.tokens, self.logprobs, reason, self.top)


class Generator:
    """Runs requests through a model, `batch_size` sequences at a time.

    context: positions a sequence may reach (default the model's). kv_cache: the dtype in which keys and
    values are kept, "f16" or "f32". trace: time every decode dispatch, each then in a command buffer of
    its own. The decode chain has the sampling steps that some request
    of a run may use, and no others; before the first run, those of `sampling`.
    """

    def __init__(self, model, *, batch_size: int = 1, context: int | None = None, kv_cache: str = CACHE_DTYPES[0],
                 trace: bool = False, sampling: Sampling = Sampling()):
        context = model.context if context is None else context
        if not 1 <= context <= model.context:
            raise UsageError(f"a context of {context} is not possible; the model has {model.context}")
        if batch_size < 1:
            raise UsageError(f"batch size {batch_size} is not possible; use 1 or more")
        self.model = model
        self.batch_size = batch_size
        self.context = context
        self.stats = Stats()
        self._trace = [] if trace else None
        self._cache = model.cache(batch_size, context, kv_cache)
        self._rows = Rows.zeros(batch_size)
        self._prefill, self._prefill_rows = None, None   # built at the first prompt of two tokens
        self._counts = model.counts.numpy(model.device)
        self._build_decode(Features.of([sampling]))

    def explain(self) -> str:
        """The decode chain as a table."""
        return str(self._decode)

    def trace(self) -> list[TraceEvent]:
        return list(self._trace or ())

    def run(self, requests: Iterable[Request]) -> Iterator[object]:
        """Yields Prefilled, Token, Finished and Failed as they happen; rows end in any order."""
        self._counts[:] = 0
        waiting = deque(requests)
        features = Features.of(request.sampling for request in waiting)
        if features != self._sampler.features:
            self._build_decode(features)
        free = list(range(self.batch_size))[::-1]
        active: list[_Sequence] = []
        while waiting or active:
            joined = []
            while waiting and free:
                request = waiting.popleft()
                try:
                    self._check(request)
                except PromptError as error:
                    yield Failed(request.index, str(error))
                    continue
                joined.append(_Sequence(request, free.pop()))
            yield from self._prefill_all(joined)
            for sequence in joined:
                self._seat(len(active), sequence)
                active.append(sequence)
            if active:
                yield from self._decode_until_one_ends(active, free)
        self.stats.expert_counts = self._counts.copy()

    # Prefill

    def _check(self, request: Request) -> None:
        if not request.tokens:
            raise PromptError("an empty prompt has nothing to continue; give at least one token")
        if len(request.tokens) > self.context - 1:
            raise PromptError(f"{len(request.tokens)} prompt tokens do not fit a context of {self.context}; "
                              f"use at most {self.context - 1}")
        bad = next((token for token in request.tokens if not 0 <= token < self.model.vocab_size), None)
        if bad is not None:
            raise PromptError(f"token {bad} is not in the vocabulary of {self.model.vocab_size}")
        bad = next((token for token in request.sampling.logit_bias if token >= self.model.vocab_size), None)
        if bad is not None:
            raise PromptError(f"logit_bias names token {bad}, which is not in the vocabulary of {self.model.vocab_size}")

    def _prefill_all(self, sequences: list[_Sequence]) -> Iterator[Prefilled]:
        """Prompts of all `sequences` but their last tokens, as many at a time as the chain takes."""
        pending = [(sequence, position) for sequence in sequences for position in range(sequence.before_last)]
        if pending and self._prefill is None:
            self._build_prefill()
        while pending:
            chunk, pending = pending[: self._prefill.plan.rows], pending[self._prefill.plan.rows :]
            start = time.perf_counter()
            rows, device = self._prefill_rows, self.model.device
            tokens, positions, slots = (rows.tokens.numpy(device), rows.positions.numpy(device), rows.slots.numpy(device))
            for row, (sequence, position) in enumerate(chunk):
                tokens[row] = sequence.request.tokens[position]
                positions[row] = position
                slots[row] = sequence.slot
            self._prefill.commit(len(chunk)).wait()
            self.stats.prefill_seconds += time.perf_counter() - start
            self.stats.prompt_tokens += len(chunk)
            for sequence, group in itertools.groupby(chunk, key=lambda item: item[0]):
                count = len(list(group))
                sequence.done += count
                yield Prefilled(sequence.request.index, count, sequence.done, len(sequence.request.tokens))

    def _seat(self, row: int, sequence: _Sequence) -> None:
        """Puts a prefilled sequence into a row of the decode chain."""
        request, state = sequence.request, self._state
        state["tokens"][row] = request.tokens[-1]
        state["positions"][row] = len(request.tokens) - 1
        state["slots"][row] = sequence.slot
        state["temperatures"][row] = request.temperature
        state["seeds"][row] = (request.seed & 0xFFFFFFFF, request.seed >> 32 & 0xFFFFFFFF)
        self._sampler.seat(row, request.sampling, request.tokens, sequence.slot)

    # Decode

    def _decode_until_one_ends(self, active: list[_Sequence], free: list[int]) -> Iterator[object]:
        """Steps of all active rows until a row ends, whose slot then goes to `free`."""
        device, rows = self.model.device, len(active)
        for sequence in active:
            if not sequence.tokens:   # its last prompt token goes through now
                self.stats.prompt_tokens += 1
                sequence.done += 1
        before = device.command_buffers
        clock = time.perf_counter()
        run = self._commit(rows)
        while True:
            run.wait()
            now = time.perf_counter()
            self.stats.decode_seconds += now - clock
            clock = now
            result, *top = [view[:rows].copy() for view in self._results]
            self._count(rows, sum(values.nbytes for values in (result, *top)), device.command_buffers - before)
            before = device.command_buffers
            counts = [len(sequence.tokens) for sequence in active]
            ends = [self._end(sequence, row) for sequence, row in zip(active, result.tolist())]
            for values in top:
                self._take_top(active, values)
            ended = any(end is not None for end in ends)
            if not ended:
                run = self._commit(rows)   # the device goes on while the events are used
            for sequence, end, count in zip(active, ends, counts):
                if len(sequence.tokens) > count:
                    yield Token(sequence.request.index, sequence.tokens[-1], sequence.logprobs[-1],
                                sequence.top[-1] if sequence.top else ())
                if end is not None:
                    yield end
            if ended:
                self._unseat(active, [end is not None for end in ends], free)
                return

    def _end(self, sequence: _Sequence, result: list[int]) -> object | None:
        """Takes a row's 8 bytes; the event that ends it, or None."""
        token, bits = result
        if token == _core.NONE:
            return Failed(sequence.request.index, self._decode.failure(bits))
        if token in self.model.end_tokens:
            return sequence.finished("stop")
        sequence.tokens.append(token)
        sequence.logprobs.append(_float(bits))
        self.stats.generated_tokens += 1
        if sequence.request.ends is not None and sequence.request.ends(token):
            return sequence.finished("stop")
        length = len(sequence.request.tokens) + len(sequence.tokens)
        if len(sequence.tokens) >= sequence.request.max_tokens or length >= self.context:
            return sequence.finished("length")
        return None

    @staticmethod
    def _take_top(active: list[_Sequence], values) -> None:
        """The largest log-probabilities of each row's new token, [rows, n, 2] u32."""
        for sequence, ids, logprobs in zip(active, values[..., 0].tolist(), values[..., 1].view("float32").tolist()):
            count = sequence.request.sampling.logprobs
            if count and len(sequence.top) < len(sequence.tokens):
                sequence.top.append(tuple(pair for pair in zip(ids[:count], logprobs) if pair[0] != _core.NONE))

    def _unseat(self, active: list[_Sequence], ended: list[bool], free: list[int]) -> None:
        """Closes the gaps: rows that go on move up, with their state."""
        kept = [row for row, end in enumerate(ended) if not end]
        for values in self._state.values():
            values[: len(kept)] = values[kept]
        free.extend(sequence.slot for sequence, end in zip(active, ended) if end)
        active[:] = [active[row] for row in kept]

    def _commit(self, rows: int):
        if self._trace is None:
            return self._decode.commit(rows)
        times = self._decode.core.trace(rows)
        self._trace += [TraceEvent(dispatch.kernel, dispatch.step, start, end, self.stats.decode_steps)
                        for dispatch, (start, end) in zip(self._decode.plan.dispatches, times)]
        return _Done()

    def _count(self, rows: int, nbytes: int, command_buffers: int) -> None:
        self.stats.decode_steps += 1
        self.stats.decode_tokens += rows
        self.stats.readback_bytes += nbytes
        self.stats.command_buffers += command_buffers

    # Chains

    def _build_decode(self, features: Features) -> None:
        """The decode chain with these features, and the state of its rows."""
        device, rows = self.model.device, self._rows
        pipe = Pipeline(device, rows=self.batch_size, label="decode")
        self._sampler = Sampler(device, features, self.batch_size, self.batch_size, self.context)
        self._decode = pipe.build(self._sampler.add(pipe, self.model.forward(pipe, rows, self._cache), rows))
        self._results = [self._decode.view(output) for output in self._decode.plan.outputs]
        names = ("tokens", "positions", "slots", "temperatures", "seeds")
        self._state = {name: getattr(rows, name).numpy(device) for name in names} | self._sampler.state

    def _build_prefill(self) -> None:
        """The chain that prompts go through: see PREFILL_ROWS."""
        rows, plan = 2 * PREFILL_ROWS, None
        while plan is None or (plan.layout.nbytes > PREFILL_SCRATCH and rows > 1):
            rows //= 2
            self._prefill_rows = Rows.zeros(rows)
            pipe = Pipeline(self.model.device, rows=rows, label="prefill")
            self.model.forward(pipe, self._prefill_rows, self._cache, head=False)
            plan = pipe.plan(())
        self._prefill = Chain(plan, self.model.device)


class _Done:
    """A traced step has completed when it returns."""

    def wait(self) -> None:
        pass


def _float(bits: int) -> float:
    import struct

    return struct.unpack("<f", struct.pack("<I", bits))[0]
