"""Facts that stand in one place for Python and in another for shaders or files agree."""

from pipeline import _core
from pipeline.checkpoints.gguf.types import TYPES
from pipeline.device import resources
from pipeline.generation.settings import RANGES
from pipeline.graph.formats import AFFINE_BITS, BLOCKS, CACHE_DTYPES, FLOAT_MODES, FLOATS, PLAIN_MODES


def library():
    with _core.open_device("cpu", threads=1) as device, device.open_library(resources.shader_library()) as opened:
        return set(opened.kernel_names)


def test_the_formats_of_weights_are_those_that_have_kernels():
    formats = {name.removeprefix("embed_") for name in library() if name.startswith("embed_")}
    affine = {f"q{bits}_{scales}" for bits in AFFINE_BITS for scales in FLOATS}
    assert formats == {*FLOATS, *affine, *FLOAT_MODES, *PLAIN_MODES, *(f"gguf_{kind.lower()}" for kind in BLOCKS)}


def test_the_dtypes_of_caches_are_those_that_have_kernels():
    found = {name.removeprefix("attention_") for name in library() if name.startswith("attention_")}
    assert found == {*CACHE_DTYPES, "merge"}  # which joins sums, whatever the cache's dtype


def test_blocks_are_those_of_the_file_format():
    found = {kind.name: (kind.elements, kind.nbytes) for kind in TYPES.values()}
    assert {name: found[name] for name in BLOCKS} == BLOCKS


def test_settings_know_the_kernels_limits():
    """The command line checks them before the core is loaded."""
    assert RANGES["logprobs"].high == _core.MAX_LOGPROBS
