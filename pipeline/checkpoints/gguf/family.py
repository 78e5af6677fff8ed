"""The description of a family of GGUF files."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..checkpoint import Layout

__all__ = ["Family"]


@dataclass(frozen=True)
class Family:
    """One family.

    model_type   as in config.json
    names        the tensors of a block, GGUF's name -> transformers' or MLX's
    keys         config.json's key -> GGUF's; a key that is absent in the file stays absent: the family has a default
    fixed        config.json's values that GGUF leaves to the architecture
    needed       GGUF's keys that must be there besides those that all families need
    instead      other keys of some of these
    window       one layer of so many sees everything and the others a window, where the file does not say
    one_rope     whether layers with a window have the rope of the others
    theta        rope's base in layers with a window, where the file does not say; None: that of the others
    layout       how llama.cpp changed the weights
    """

    model_type: str
    names: Mapping[str, str]
    keys: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, object] = field(default_factory=dict)
    needed: tuple[str, ...] = ()
    instead: Mapping[str, str] = field(default_factory=dict)
    window: int = 0
    one_rope: bool = False
    theta: float | None = None
    layout: Layout = Layout()
