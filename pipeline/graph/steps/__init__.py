"""The steps of a forward pass: each checks its shapes, adds a dispatch or two, returns its tensors.

Shapes in docstrings are [rows, ...]; R is the pipeline's number of rows. Activations are f32 unless a
step says otherwise. One file a family, as in shaders/.
"""

from .attention import Attention
from .experts import Experts
from .latent import Latent
from .linear import Linear
from .norms import Norms
from .routing import Routing
from .sampling import Sampling


class Steps(Norms, Linear, Attention, Latent, Routing, Experts, Sampling):
    """Mixed into :class:`pipeline.graph.builder.Pipeline`."""
