"""The base of all families: how a model is loaded and scored.

Each family states its configuration, weights and forward pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np

from ..checkpoints.checkpoint import Checkpoint
from ..device.device import Device
from ..errors import CheckpointError
from ..graph.builder import Pipeline
from ..graph.formats import CACHE_DTYPES
from ..graph.placing import place
from ..graph.tensors import Storage, Tensor
from ..graph.transfers import Writes
from .cache import PREFILL_ROWS, Cache, CacheLayer
from .cache import Layer as CachedLayer
from .fields import Fields, Shape
from .loading import Loader
from .repacking import notes
from .rope import Rope
from .row_state import Rows
from .survey import Survey

Progress: TypeAlias = Callable[[int, int], None]
"""Is told of work that goes on: (bytes so far, bytes in all)."""


class DecoderLayer:
    """The weights of one layer. A family's own takes them from the loader, by the names that begin with `prefix`."""

    input_norm: Storage

    def __init__(self, load: Loader, prefix: str, c: Any, number: int) -> None:
        raise NotImplementedError


ConfigT = TypeVar("ConfigT", bound=Shape)
LayerT = TypeVar("LayerT", bound=DecoderLayer)


class Decoder(Generic[ConfigT, LayerT]):
    """A loaded model: weights in place, chains made on demand. The families derive from it.

    config_class   a Shape with the family's own fields, and `read(fields)`
    layer_class    the weights of one layer
    partial_rope   whether `partial_rotary_factor` says that only a part of a head turns
    embedding      the name of the embedding
    final_norm_name  of the norm before the head
    notes          lines for who runs it: what was repacked, and what the configuration asks and is not done

    With a Survey for a device the model is made on paper: nothing is mapped or copied.

    Threads: a loaded model is not changed by the chains built on it, except `counts`, to which every chain adds. So
    several generators may use one model at the same time, each in a thread of its own, where nobody reads
    `Stats.expert_counts`. Loading is for one thread.
    """

    config_class: type[ConfigT]
    layer_class: type[LayerT]
    rope: Rope
    partial_rope = False
    embedding = "model.embed_tokens"
    final_norm_name = "model.norm"

    def __init__(self, checkpoint: Checkpoint, device: Device | Survey) -> None:
        self.checkpoint = checkpoint
        self._device = device
        fields = Fields(checkpoint.config, checkpoint.source, class_defaults=checkpoint.class_defaults)
        self.config = c = self.config_class.read(fields)
        self.prepare(fields)
        _check_layers(c.layers, checkpoint)
        load = Loader(checkpoint, device)
        self.embed = load.matrix(self.embedding, (c.vocab, c.hidden))
        self.layers = [self.layer_class(load, f"model.layers.{i}", c, i) for i in range(c.layers)]
        self.final_norm = load.array(f"{self.final_norm_name}.weight", (c.hidden,))
        self.head = self.embed if c.tied else load.matrix("lm_head", (c.vocab, c.hidden))
        self.load_more(load)
        self.counts = Storage.zeros((c.layers, max(getattr(c, "experts", 1), 1)), "u32")
        self.weights = tuple(load.storages)
        self.mapped_bytes, self.repacked_bytes = load.mapped_bytes, load.repacked_bytes
        self.repacked = dict(load.reasons)  # bytes by what they are
        self.notes = notes(load)
        self.end_tokens = checkpoint.end_tokens
        self.vocab_size, self.context = c.vocab, self.longest()

    @property
    def device(self) -> Device:
        """The device that the weights are for. A surveyed model has none."""
        assert isinstance(self._device, Device), "a surveyed model has no device"
        return self._device

    def place(self, progress: Progress | None = None) -> None:
        """Brings the weights to the memory of a device that has some of its own; `progress` gets (bytes so far, all).
        Chains would do it too, weight by weight. Elsewhere the weights are in place."""
        total, done = self.unplaced_bytes, 0
        if not total:
            return

        def add(nbytes: int) -> None:
            nonlocal done
            done += nbytes
            if progress is not None:
                progress(done, total)

        place(self.device, self.weights, add)

    @property
    def unplaced_bytes(self) -> int:
        """The bytes of weights that are still to go to the device."""
        if self.device.unified:
            return 0
        waiting = {storage.extent(): storage for storage in self.weights if not storage.placed(self.device)}
        return sum(storage.nbytes for storage in waiting.values())

    def prepare(self, fields: Fields) -> None:
        """Computes what a family needs once from its configuration: the frequencies of its rotary embedding."""
        pairs = self.checkpoint.layout.rope_pairs
        self.rope = Rope.read(
            fields.config, self.config.head_dim, fields.source, interleaved=pairs or None, partial=self.partial_rope
        )

    def longest(self) -> int:
        """The most positions of a text; fewer than max_position_embeddings where the model computes a longer one in
        another way."""
        ropes = [rope for rope in (*getattr(self, "ropes", ()), getattr(self, "rope", None)) if rope is not None]
        return min([self.config.context, *(rope.positions for rope in ropes if rope.positions)])

    def load_more(self, load: Loader) -> None:
        """Takes the weights that a family has besides its layers, the embedding, the last norm and the head."""

    def forward(self, pipe: Pipeline, rows: Rows, cache: Cache, *, leading: int | None = None) -> Tensor | None:
        """The forward pass in model order. Gives the logits [R, vocab] of all rows, or of the first `leading` ones, and
        None with 0. Other rows end where the last keys and values are in the cache: they leave nothing else behind, and
        of a prompt's earlier tokens nothing else is wanted."""
        raise NotImplementedError

    def cache_layers(self) -> Sequence[CachedLayer]:
        """The cache of each layer, or its state where it is recurrent; a family whose layers differ says so here."""
        return [CacheLayer(self.config.kv_heads, self.config.head_dim)] * self.config.layers

    def cache(self, slots: int, context: int, dtype: str = CACHE_DTYPES[0], rows: int = PREFILL_ROWS) -> Cache:
        """A cache for chains of up to `rows` rows of one sequence."""
        return Cache.empty(self.cache_layers(), slots, context, dtype, rows)

    def paged_cache(self, slots: int, context: int, dtype: str = CACHE_DTYPES[0], rows: int = PREFILL_ROWS) -> Cache:
        """A cache like `cache`, in which slots have no blocks yet."""
        blocks = {table.window: table.blocks for table in self.cache(slots, context, dtype, rows).tables}
        return Cache.paged(self.cache_layers(), slots, context, blocks, dtype, rows)

    def kv(self, pipe: Pipeline, cache: Cache, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        """The caches of keys and of values of a layer, and its block table."""
        keys, values = cache.kv(layer)
        return (
            pipe.state("k_cache", keys),
            pipe.state("v_cache", values),
            pipe.state("blocks", cache.table(layer).storage),
        )

    def count(self, pipe: Pipeline, layer: int) -> Tensor:
        """The counts of how often each expert of a layer was chosen, [experts] u32."""
        return pipe.state("counts", self.counts.part(layer))

    def next_norm(
        self, pipe: Pipeline, x: Tensor, y: Tensor, layer: int, eps: float | None = None, *, weight_offset: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """The sum x + y behind `layer`, and the sum normed for the next layer, or behind the last one for the head."""
        norm, name = self.final_norm, "final_norm"
        if layer + 1 < self.config.layers:
            norm, name = self.layers[layer + 1].input_norm, f"layers.{layer + 1}.input_norm"
        eps = self.config.eps if eps is None else eps
        return pipe.fused_residual_norm(x, y, norm, eps, name=name, weight_offset=weight_offset)

    @property
    def dispatches_per_layer(self) -> int:
        """The most dispatches that a layer takes at decode."""
        pipe = Pipeline(rows=1)
        self.forward(pipe, Rows.zeros(1), self.cache(1, 1))
        steps = [dispatch.step for dispatch in pipe.dispatches]
        return max(sum(step.startswith(f"layers.{i}.") for step in steps) for i in range(self.config.layers))

    def logits(self, tokens: Sequence[int], rows: int = 64, kv_cache: str = CACHE_DTYPES[0]) -> np.ndarray:
        """Logits [len(tokens), vocab] after each token of one sequence, `rows` at a time: for scoring."""
        rows = min(rows, len(tokens))
        state, pipe = Rows.zeros(rows), Pipeline(self.device, rows=rows, label="score")
        logits = self.forward(pipe, state, self.cache(1, len(tokens), kv_cache, rows))
        assert logits is not None
        chain, result = pipe.build(logits), np.empty((len(tokens), self.vocab_size), np.float32)
        for first in range(0, len(tokens), rows):
            chunk = np.asarray(tokens[first : first + rows], np.uint32)
            with Writes(self.device) as writes:
                writes.add(state.tokens, chunk)
                writes.add(state.positions, np.arange(first, first + len(chunk)))
            chain.commit(len(chunk)).wait()
            chain.check_status(len(chunk))
            result[first : first + len(chunk)] = chain.view(logits)[: len(chunk)]
        return result


def _check_layers(layers: int, checkpoint: Checkpoint) -> None:
    """Raises CheckpointError where the configuration has many layers more than the tensors: one line for all of them.
    A few are found tensor by tensor."""
    found = (_LAYER.match(name) for name in checkpoint.tensors)
    there = len({match[1] for match in found if match})
    if 0 < there < layers - FEW:
        raise CheckpointError(
            f"{checkpoint.source}: num_hidden_layers = {layers:,}, the checkpoint has tensors of {there:,}; "
            "download it again"
        )


FEW = 64  # layers that are named one by one where they are missing

_LAYER = re.compile(r"model\.layers\.([0-9]+)\.")

Model: TypeAlias = Decoder[Any, Any]
"""A loaded model of any family."""
