"""A generator without a device, for tests of the command line: `python tests/support/fakes.py ARGUMENTS` runs with it.

It "generates" the tokens of a fixed text, differently for each seed where the temperature is above 0.
FAKE_SLEEP delays every token by so many seconds; FAKE_CACHE: 2 to it is what a position of the cache takes; FAKE_FAIL
names an index that fails while it runs.
"""

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pipeline import run  # noqa: E402
from pipeline.errors import DeviceError  # noqa: E402
from pipeline.generation.requests import Failed, Finished, Prefilled, Request, Stats, Token  # noqa: E402, F401
from pipeline.generation.usage import Blocks  # noqa: E402

TEXT = (
    " there was a fox 🦊 who lived by the river. She liked to sing, and every morning she sang to the ducks and"
    " the frogs. They sang with her, all day long, until the sun went down behind the hills.\n\nThe end."
)


def cache_bytes(model, batch_size, context, kv_cache="f16"):
    return batch_size * context << int(os.environ.get("FAKE_CACHE", "0"))


class Generator:
    """Runs `batch_size` requests side by side, one token of each a step, like the real one."""

    def __init__(self, model, *, batch_size=1, context=None, trace=False, **others):
        self.model, self.batch_size, self.context, self.tracing = model, batch_size, context, trace
        self.blocks = Blocks(1, 2, 5)
        self.stats = Stats(expert_counts=numpy.arange(1, 129).reshape(8, 16))
        self._sleep = float(os.environ.get("FAKE_SLEEP", "0"))
        self._failing = int(os.environ.get("FAKE_FAIL", "-1"))

    def run(self, requests):
        waiting, running, more = iter(requests), [], True
        while more or running:
            while more and len(running) < self.batch_size:
                request = next(waiting, "end")
                more = request != "end"
                if not more or request is None:
                    break
                yield self._prefill(request)
                if request.index == self._failing:
                    yield Failed(request.index, "layer 3: every logit is NaN")
                else:
                    running.append((request, self._text(request), []))
            events = [(row, self._decode(*row)) for row in running]
            if any(isinstance(event, Token) for _, event in events):
                self.stats.decode_steps += 1
                self.stats.command_buffers += 1
            for row, event in events:
                if isinstance(event, Finished):
                    running.remove(row)
                yield event

    def _prefill(self, request):
        count = len(request.tokens)
        self.stats.prompt_tokens += count
        self.stats.prefill_seconds += 0.001
        return Prefilled(request.index, count - 1, count - 1, count)

    def _decode(self, request, text, made):
        if len(made) == len(text) or len(made) == request.max_tokens:
            reason = "stop" if len(made) == len(text) else "length"
            return Finished(request.index, made, [-0.5] * len(made), reason)
        time.sleep(self._sleep)
        made.append(text[len(made)])
        self.stats.generated_tokens += 1
        self.stats.decode_tokens += 1
        self.stats.readback_bytes += 8
        self.stats.decode_seconds += 0.0005
        if request.ends is not None and request.ends(made[-1]):
            del text[len(made) :]
        return Token(request.index, made[-1], -0.5)

    def _text(self, request):
        """The tokens of TEXT, shorter for each later request, and with a number that the seed decides."""
        suffix = f" {request.seed % 1000}" if request.temperature > 0 else ""
        tokens = self.model.encode(TEXT[: len(TEXT) - 20 * (request.index % 5)] + suffix)
        return list(tokens[1:])

    def trace(self):
        assert self.tracing
        return [
            SimpleNamespace(
                name="rms_norm", step="final_norm", start_seconds=1.0, end_seconds=1.00002, command_buffer=0
            ),
            SimpleNamespace(name="linear", step="logits", start_seconds=1.00001, end_seconds=1.00003, command_buffer=0),
            SimpleNamespace(name="linear", step="logits", start_seconds=1.00005, end_seconds=1.00006, command_buffer=1),
        ]

    def explain(self):
        return "dispatch  reads  writes\nembed     ids    x"


def load_model(checkpoint, *, device="auto", threads=0, isa=None):
    """A model of the checkpoint's sizes; DeviceError for a device that is absent here."""
    if device == "metal":
        raise DeviceError("device metal: not on this machine; use --device cpu")
    tokenizer = checkpoint.tokenizer()
    for name in checkpoint.tensors:
        checkpoint.tensor(name)
    return SimpleNamespace(
        config=checkpoint.config,
        device=SimpleNamespace(name="fake", isa="", threads=threads or 2, unified=True),
        dispatches_per_layer=11,
        context=checkpoint.config["max_position_embeddings"],
        vocab_size=checkpoint.config["vocab_size"],
        end_tokens=checkpoint.end_tokens,
        repacked_bytes=0,
        mapped_bytes=checkpoint.nbytes,
        notes=tuple(os.environ.get("FAKE_NOTES", "").splitlines()),
        encode=tokenizer.encode,
    )


def main(arguments=None):
    return run.main(arguments, engine=sys.modules[__name__])


if __name__ == "__main__":
    sys.exit(main())
