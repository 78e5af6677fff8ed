"""llama.cpp as the other side: the same GGUF file, or the same weights as one; the same work, on the same number of
threads or the same GPU.

Its C interface is called directly, on batches that are filled before the clock starts; nothing is sampled and nobody
looks at the logits. All of that favours the peer.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from ..checkpoints.checkpoint import Checkpoint
from ..errors import RunError, UsageError
from ..graph.plan import human
from ..host import cores
from .cache import complete_folder, make_room, models_folder
from .workloads import Prompts, Workload

__all__ = ["LlamaCpp", "model_file", "written_file"]

_CACHE_TYPES = {"f16": "GGML_TYPE_F16", "f32": "GGML_TYPE_F32", "q8": "GGML_TYPE_Q8_0"}
ERROR = 4  # of ggml's log levels
ALL_LAYERS = 1 << 16  # more than any model has
REBUILD = 'CMAKE_ARGS="-DGGML_CUDA=on" pip install --force-reinstall --no-cache-dir llama-cpp-python'
PROMPT_BATCH = 2048  # tokens given to llama_decode at a time; it splits them by its own n_ubatch

_Item: TypeAlias = tuple[int, int, int, bool]  # token, position, sequence, whether its logits are wanted


def model_file(checkpoint: Checkpoint, say: Callable[[str], None]) -> Path:
    """The checkpoint's own file where that is GGUF, and its first part where it has several, as llama.cpp asks for it.
    Else a GGUF in the cache, written on the first call."""
    return checkpoint.files[0] if checkpoint.path.is_file() else _ensure_gguf(checkpoint, say)


def written_file(checkpoint: Checkpoint) -> Path:
    """Where the GGUF of a checkpoint's weights is kept."""
    stamp: list[object] = [checkpoint.path.resolve()]
    for file in sorted({info.file for info in checkpoint.tensors.values()}):
        stamp += [file.name, file.stat().st_size, file.stat().st_mtime_ns]
    name = f"{checkpoint.path.name}-gguf-{hashlib.sha256(repr(stamp).encode()).hexdigest()[:12]}"
    return models_folder() / name / "model.gguf"


def _ensure_gguf(checkpoint: Checkpoint, say: Callable[[str], None]) -> Path:
    from .gguf_file import gguf_bytes, write_gguf  # needs the package gguf, which a GGUF file does without

    file = written_file(checkpoint)
    target = file.parent
    if not file.exists():
        nbytes = gguf_bytes(checkpoint)
        make_room(target.parent, nbytes, target.name)
        say(f"writing {human(nbytes)} for llama.cpp to {target}, once")
        with complete_folder(target) as temporary:
            write_gguf(checkpoint, temporary / file.name)
    return file


class LlamaCpp:
    """One side of the benchmark. `engine` describes the build."""

    name = "llama.cpp"

    def __init__(self, threads: int, *, gpu: bool = False) -> None:
        import llama_cpp  # an optional package, which only this class needs

        self._api = llama_cpp
        self._model: Any = None
        self._context: Any = None
        self._said: list[str] = []  # its complaints; it prints nothing
        self._log = llama_cpp.llama_log_callback(
            lambda level, text, _: self._said.append(_line(text)) if level >= ERROR else None
        )
        llama_cpp.llama_log_set(self._log, None)
        llama_cpp.llama_backend_init()
        self._threads, self._gpu = threads or cores(), gpu
        self.engine = {"version": self._version(), "system": llama_cpp.llama_print_system_info().decode()}
        if gpu:
            self._require_gpu()
            self.engine["how"] = "all layers on the GPU"
            switches = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("GGML_CUDA")]
            if switches:
                self.engine["how"] += f", {' '.join(switches)}"

    def _version(self) -> str:
        """The binding's, and the library's where that tells."""
        own = getattr(self._api, "llama_version", None)
        return str(self._api.__version__) + (f" ({own().decode()})" if own else "")

    def _require_gpu(self) -> None:
        if not self._api.llama_supports_gpu_offload():
            raise UsageError(
                f"llama-cpp-python {self._api.__version__} is built without CUDA, or finds no GPU"
                f"{f' ({self._said[-1]})' if self._said else ''}; {REBUILD}"
            )

    def load(self, file: Path, kv_cache: str) -> None:
        """Loads the model."""
        self._cache_type = getattr(self._api, _CACHE_TYPES[kv_cache])
        parameters = self._api.llama_model_default_params()
        parameters.n_gpu_layers = ALL_LAYERS if self._gpu else 0
        self._said.clear()
        self._model = self._api.llama_model_load_from_file(os.fsencode(file), parameters)
        if not self._model:
            written = models_folder() in file.parents
            raise RunError(
                f"llama.cpp {self._api.__version__} does not load {file} "
                f"({self._said[0] if self._said else 'and says nothing'}); "
                + ("remove its folder to have it written again" if written else "another version may")
            )

    def prepare(self, work: Workload) -> None:
        """A context for the work."""
        api = self._api
        self._release()
        parameters = api.llama_context_default_params()
        parameters.n_ctx = work.batch * work.positions
        parameters.n_batch, parameters.n_ubatch = PROMPT_BATCH, 512
        parameters.n_seq_max = work.batch
        parameters.type_k = parameters.type_v = self._cache_type
        parameters.n_threads = parameters.n_threads_batch = self._threads
        self._context = api.llama_init_from_model(self._model, parameters)
        if not self._context:
            raise RunError(f"llama.cpp makes no context for {work.label}{f' ({self._said[-1]})' if self._said else ''}")

    def measure(self, work: Workload, prompts: Prompts) -> float:
        """Seconds of the workload's timed part."""
        self._api.llama_memory_clear(self._api.llama_get_memory(self._context), True)
        prefix = [prompt if work.kind == "pp" else prompt[: work.context] for prompt in prompts]
        items = [
            (token, i, row, i + 1 == len(tokens)) for row, tokens in enumerate(prefix) for i, token in enumerate(tokens)
        ]
        chunks = [items[first : first + PROMPT_BATCH] for first in range(0, len(items), PROMPT_BATCH)]
        if work.kind == "pp":
            return self._decode(chunks)
        self._decode(chunks)
        following = [prompt[work.context :] for prompt in prompts]
        return self._decode(
            [
                [(tokens[i], work.context + i, row, True) for row, tokens in enumerate(following)]
                for i in range(work.tokens)
            ]
        )

    def close(self) -> None:
        """Frees the model and its context."""
        self._release()
        if self._model:
            self._api.llama_model_free(self._model)
            self._model = None

    def _decode(self, steps: Iterable[Sequence[_Item]]) -> float:
        """Seconds of one llama_decode after another."""
        api = self._api
        batches: list[Any] = []
        try:
            for items in steps:
                batches.append(api.llama_batch_init(len(items), 0, 1))
                _fill(batches[-1], items)
            start = time.perf_counter()
            for batch in batches:
                status = api.llama_decode(self._context, batch)
                if status != 0:
                    raise RunError(f"llama.cpp: llama_decode failed with {status}")
                api.llama_synchronize(self._context)
            return time.perf_counter() - start
        finally:
            for batch in batches:
                api.llama_batch_free(batch)

    def _release(self) -> None:
        if self._context:
            self._api.llama_free(self._context)
            self._context = None


def _line(text: bytes) -> str:
    return " ".join(text.decode(errors="replace").split())


def _fill(batch: Any, items: Sequence[_Item]) -> None:
    batch.n_tokens = len(items)
    for i, (token, position, sequence, logits) in enumerate(items):
        batch.token[i], batch.pos[i] = token, position
        batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, sequence, logits
