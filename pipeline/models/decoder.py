"""What the families share: how a model is loaded and scored. Each family states its configuration, weights and forward pass."""

from __future__ import annotations

from dataclasses import dataclass

from ..graph.builder import Pipeline
from ..graph.formats import CACHE_DTYPES
from ..graph.tensors import Storage, Tensor
from .cache import PREFILL_ROWS, Cache, CacheLayer
from .fields import Fields
from .loading import Loader
from .rope import Rope
from .rows import Rows


@dataclass(frozen=True)
class Place:
    """The rows of a pipeline: their tokens, and where these stand, all [R] u32."""

    tokens: Tensor
    positions: Tensor
    slots: Tensor


class Decoder:
    """A loaded model: weights in place, chains made on demand. Built on by the families.

    Config   a Shape with what the family adds, and `read(fields)`
    Layer    the weights of one layer, made of (loader, prefix of the names, config, number)
    """

    Config: type
    Layer: type

    def __init__(self, checkpoint, device):
        self.checkpoint = checkpoint
        self.device = device
        fields = Fields(checkpoint.config, checkpoint.source)
        self.config = c = self.Config.read(fields)
        self.prepare(fields)
        load = Loader(checkpoint, device)
        self.embed = load.matrix("model.embed_tokens", (c.vocab, c.hidden))
        self.layers = [self.Layer(load, f"model.layers.{i}", c, i) for i in range(c.layers)]
        self.final_norm = load.array("model.norm.weight", (c.hidden,))
        self.head = self.embed if c.tied else load.matrix("lm_head", (c.vocab, c.hidden))
        self.counts = Storage.zeros((c.layers, getattr(c, "experts", 1)), "u32")
        self.mapped_bytes, self.repacked_bytes = load.mapped_bytes, load.repacked_bytes
        self.end_tokens = checkpoint.end_tokens
        self.vocab_size, self.context = c.vocab, c.context

    def prepare(self, fields: Fields) -> None:
        """What a family computes once of its configuration: the frequencies of its rotary embedding."""
        pairs = self.checkpoint.layout.rope_pairs
        self.rope = Rope.read(fields.config, self.config.head_dim, fields.source, interleaved=pairs or None)

    def forward(self, pipe: Pipeline, rows: Rows, cache: Cache, *, head: bool = True) -> Tensor | None:
        """The forward pass in model order. Gives the logits [R, vocab], or without `head` None: then it
        ends where the last keys and values are in the cache, which is all a prompt's earlier tokens
        leave behind."""
        raise NotImplementedError

    def cache_layers(self) -> list[CacheLayer]:
        """What each layer keeps of a position; a family whose layers differ says so here."""
        return [CacheLayer(self.config.kv_heads, self.config.head_dim)] * self.config.layers

    def cache(self, slots: int, context: int, dtype: str = CACHE_DTYPES[0], rows: int = PREFILL_ROWS) -> Cache:
        """For chains of up to `rows` rows of one sequence."""
        return Cache.empty(self.cache_layers(), slots, context, dtype, rows)

    def kv(self, pipe: Pipeline, cache: Cache, layer: int) -> tuple[Tensor, Tensor]:
        """The caches of keys and of values of a layer."""
        return pipe.state("k_cache", cache.keys[layer]), pipe.state("v_cache", cache.values[layer])

    def count(self, pipe: Pipeline, layer: int) -> Tensor:
        """How often each expert of a layer was chosen, [experts] u32."""
        return pipe.state("counts", self.counts.part(layer))

    def next_norm(
        self, pipe: Pipeline, x: Tensor, y: Tensor, layer: int, eps: float | None = None
    ) -> tuple[Tensor, Tensor]:
        """(x + y, that normed) behind `layer`: for the next one by its input_norm, else for the head."""
        norm, name = self.final_norm, "final_norm"
        if layer + 1 < self.config.layers:
            norm, name = self.layers[layer + 1].input_norm, f"layers.{layer + 1}.input_norm"
        return pipe.residual_norm(x, y, norm, self.config.eps if eps is None else eps, name=name)

    @staticmethod
    def place(pipe: Pipeline, rows: Rows) -> Place:
        return Place(*(pipe.state(name, getattr(rows, name)) for name in ("tokens", "positions", "slots")))

    @property
    def dispatches_per_layer(self) -> int:
        """The most that a layer takes at decode."""
        pipe = Pipeline(self.device, rows=1)
        self.forward(pipe, Rows.zeros(1), self.cache(1, 1))
        steps = [dispatch.step for dispatch in pipe.dispatches]
        return max(sum(step.startswith(f"layers.{i}.") for step in steps) for i in range(self.config.layers))

    def logits(self, tokens, rows: int = 64, kv_cache: str = CACHE_DTYPES[0]):
        """Logits [len(tokens), vocab] after each token of one sequence, `rows` at a time: for scoring."""
        import numpy as np

        rows = min(rows, len(tokens))
        state, pipe = Rows.zeros(rows), Pipeline(self.device, rows=rows, label="score")
        logits = self.forward(pipe, state, self.cache(1, len(tokens), kv_cache, rows))
        chain, result = pipe.build(logits), np.empty((len(tokens), self.vocab_size), np.float32)
        for first in range(0, len(tokens), rows):
            chunk = np.asarray(tokens[first : first + rows], np.uint32)
            state.tokens.numpy(self.device)[: len(chunk)] = chunk
            state.positions.numpy(self.device)[: len(chunk)] = np.arange(first, first + len(chunk))
            chain.commit(len(chunk)).wait()
            chain.check_status(len(chunk))
            result[first : first + len(chunk)] = chain.view(logits)[: len(chunk)]
        return result
