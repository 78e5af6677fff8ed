"""PyTorch as the other side: transformers' model in bf16 with a static cache, greedy.

On a GPU a decode step is recorded once as a CUDA graph and replayed for each token, so that Python takes no time
between kernels. Where that fails, the step is called as it is. Of transformers' ways to multiply by experts the fastest
counts.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import RunError, UsageError
from ..host import cores
from .workloads import Prompts, Workload

__all__ = ["TorchPeer"]

GROUPED, BATCHED, EAGER = "grouped_mm", "batched_mm", "eager"  # transformers' names
FEW = 32  # rows for which BATCHED is tried: it copies the matrices of every row's experts
TRIED = 4  # steps that are timed to choose one
WARM = 3  # steps before one is recorded, which choose kernels and take memory


class TorchPeer:
    """One side of the benchmark. `engine` describes the build and how the workloads were run."""

    name = "torch"

    def __init__(self, threads: int, *, gpu: bool = False) -> None:
        import torch  # optional packages, which only this class needs
        import transformers

        self._torch, self._transformers = torch, transformers
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        if gpu and not torch.cuda.is_available():
            raise UsageError(
                f"torch {torch.__version__} is built without CUDA, or finds no GPU; https://pytorch.org/get-started "
                "has builds with CUDA"
            )
        if not gpu:
            torch.set_num_threads(threads or cores())
        self._device = torch.device("cuda" if gpu else "cpu")
        self._ways: list[str] = []
        self._model: Any = None
        self._cache: Any = None
        self._step: Callable[[], None] | None = None
        self._experts: str | None = None  # for what is timed
        self._context_experts: str | None = None  # for what comes before
        self.engine = {
            "version": f"{torch.__version__}, transformers {transformers.__version__}",
            "system": torch.cuda.get_device_name() if gpu else f"{torch.get_num_threads()} threads",
        }

    def load(self, model: Path, kv_cache: str) -> None:
        """Loads a folder, or a GGUF file, whose weights become bf16."""
        options: dict[str, Any] = {"dtype": self._torch.bfloat16}
        if self._device.type == "cuda" and importlib.util.find_spec("accelerate"):
            options["device_map"] = str(self._device)  # straight to the GPU
        folder = model
        if model.is_file():
            folder, options["gguf_file"] = model.parent, model.name
        auto = self._transformers.AutoModelForCausalLM
        self._model = auto.from_pretrained(folder, **options).to(self._device).eval()

    def prepare(self, work: Workload) -> None:
        """A cache for the work; for a text, also the fastest way to run a step."""
        self._step = None
        config = self._model.config
        self._cache = self._transformers.StaticCache(config=config, max_cache_len=work.positions)
        with self._torch.inference_mode():
            if work.kind == "tg":
                self._token = self._torch.zeros((work.batch, 1), dtype=self._torch.long, device=self._device)
            self._choose(work)

    def measure(self, work: Workload, prompts: Prompts) -> float:
        """Seconds of the workload's timed part."""
        with self._torch.inference_mode():
            return self._prompt(prompts) if work.kind == "pp" else self._text(work, prompts)

    def close(self) -> None:
        """Lets go of the model; its memory goes with the process."""
        self._model = self._cache = self._step = None

    def _prompt(self, prompts: Sequence[Sequence[int]]) -> float:
        self._cache.reset()
        tokens = self._torch.tensor(prompts, device=self._device)
        self._use(self._experts)
        self._wait()
        start = time.perf_counter()
        self._forward(tokens)
        self._wait()
        return time.perf_counter() - start

    def _text(self, work: Workload, prompts: Prompts) -> float:
        step = self._step
        if step is None:
            raise RunError(f"{work.label}: prepare was not called")
        self._cache.reset()
        tokens = self._torch.tensor(prompts, device=self._device)
        if work.context:
            self._use(self._context_experts)
            self._forward(tokens[:, : work.context])
        self._use(self._experts)
        self._token.copy_(tokens[:, work.context : work.context + 1])
        return self._timed(step, work.tokens)

    def _forward(self, tokens: Any) -> Any:
        """The most likely token after each row."""
        output = self._model(input_ids=tokens, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        return output.logits[:, -1:].argmax(-1)

    def _plain_step(self) -> None:
        self._token.copy_(self._forward(self._token))

    def _choose(self, work: Workload) -> None:
        """Takes the fastest of the ways to run a text's step, or a prompt."""
        best, failures = None, []
        self._context_experts = None
        for experts in self._ways_for(work):
            if experts == EAGER and best is not None and self._device.type == "cuda":
                break  # it waits for the GPU in every layer
            try:
                self._use(experts)
                step, how = self._recorded() if work.kind == "tg" else (None, "one call")
                self._cache.reset()
                tried = work.prompts(0, self._model.config.get_text_config().vocab_size)
                seconds = self._timed(step, min(TRIED, work.tokens)) if step else self._try_prompt(tried, experts)
            except Exception as error:  # not every way is there for every device and dtype
                failures.append(_short(error))
                continue
            if best is None or seconds < best[0]:
                best = seconds, experts, step, how
            if experts != BATCHED and self._context_experts is None:
                self._context_experts = experts
        if best is None:
            raise RunError(f"{work.label} cannot be run: {failures[0]}")
        _, self._experts, self._step, how = best
        self._tell(f"{how}{f' ({self._experts})' if self._experts else ''}", work)

    def _ways_for(self, work: Workload) -> tuple[str | None, ...]:
        """The ways to multiply by experts that may be fast; None for the model's only one."""
        if not self._model._can_set_experts_implementation():
            return (None,)
        few = work.kind == "tg" and work.batch <= FEW
        return (GROUPED, BATCHED, EAGER) if few else (GROUPED, EAGER)

    def _try_prompt(self, prompts: Prompts, experts: str | None) -> float:
        self._experts = experts
        self._prompt(prompts)  # which chooses kernels
        return self._prompt(prompts)

    def _recorded(self) -> tuple[Callable[[], None], str]:
        """A step as a CUDA graph, or as it is where there is no GPU or where that fails; and which it became."""
        torch = self._torch
        if self._device.type != "cuda":
            self._cache.reset()
            self._plain_step()
            return self._plain_step, "plain calls"
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM):
                self._cache.reset()
                self._plain_step()
        torch.cuda.current_stream().wait_stream(side)
        self._cache.reset()
        self._wait()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self._plain_step()
        except Exception as error:  # something in the model waits for the GPU
            self._wait()
            return self._plain_step, f"plain calls, because no CUDA graph can be recorded: {_short(error)}"
        return graph.replay, "one CUDA graph per token"

    def _timed(self, step: Callable[[], None], times: int) -> float:
        self._wait()
        start = time.perf_counter()
        for _ in range(times):
            step()
        self._wait()
        return time.perf_counter() - start

    def _use(self, experts: str | None) -> None:
        if experts is not None:
            self._model.set_experts_implementation(experts)

    def _wait(self) -> None:
        if self._device.type == "cuda":
            self._torch.cuda.synchronize()

    def _tell(self, how: str, work: Workload) -> None:
        self._ways.append(f"{work.label} batch {work.batch}: {how}")
        self.engine["how"] = "bf16, static cache; " + "; ".join(self._ways)


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
