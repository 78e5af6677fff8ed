"""The steps of a forward pass: each checks its shapes, adds a dispatch or two, returns its tensors.

Shapes in docstrings are [rows, ...]; R is the pipeline's number of rows. Activations are f32 unless a
step says otherwise. There is one file per family, as in shaders/. What a step may use is in `graph/step.py`.
"""

from .experts import Experts
from .gates import Gates
from .layer_norm import LayerNorms
from .linear import Linear
from .mixer import Mixer
from .per_layer import PerLayer
from .recurrent import Recurrent
from .sampling import Sampling


class Steps(PerLayer, LayerNorms, Mixer, Experts, Linear, Recurrent, Gates, Sampling):
    """All step families together. `pipeline.Pipeline` derives from it."""
