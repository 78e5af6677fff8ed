"""Importing the package costs next to nothing and brings nothing heavy."""

import importlib
import re
import subprocess
import sys

import pytest
from support.paths import ROOT

from pipeline import errors


def modules_after(statement):
    code = f"import sys\n{statement}\nprint(' '.join(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_import_is_light():
    loaded = modules_after("import pipeline")
    assert not loaded & {"numpy", "rich", "tokenizers", "torch", "transformers", "mlx", "pipeline._core"}


def test_nothing_ever_imports_a_framework():
    loaded = modules_after("import pipeline\nfor name in pipeline.__all__: getattr(pipeline, name)")
    assert "pipeline._core" in loaded and not loaded & {"torch", "transformers", "mlx", "llama_cpp"}


PUBLIC = {
    "pipeline": (
        "Blocks Buffer Chain Device Dispatch DispatchChain Finding Generator Kernel Library Pipeline Plan Quantized "
        "Request Scheduler Storage Tensor checked errors generation language load load_model open_checkpoint "
        "open_device ops perplexity quantize score"
    ),
    "pipeline.device": ("Access Buffer Device Dispatch DispatchChain Finding KINDS Kernel Library checked open_device"),
    "pipeline.checkpoints": (
        "Chat Checkpoint NAMES TensorInfo TextStream Tokenizer builtin_model model_path open_checkpoint"
    ),
    "pipeline.graph": "Blocks Chain Mapped Pipeline Plan Quantized Storage Tensor Weight quantize",
    "pipeline.models": "Decoder DecoderLayer FAMILIES Model family_of load_model surveyed",
    "pipeline.generation": (
        "Event Failed Finished Generator Handle Perplexity Prefilled Request Sampling Scheduler Score Stats Token "
        "TraceEvent cache_bytes load_model perplexity score"
    ),
    "pipeline.language": "AsyncStream LanguageModel Stream Text load",
    "pipeline.ops": (
        "Sampled fused_moe_routing fused_norm_add fused_norm_add_scalar fused_residual_norm "
        "fused_residual_norm_scalar gumbel_sample moe_softmax_topk softmax_sample"
    ),
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names(name):
    """Users may rely on these names: one that comes or goes is a decision, written down here."""
    package = importlib.import_module(name)
    assert package.__all__ == sorted(PUBLIC[name].split()) == dir(package)
    for each in package.__all__:
        assert getattr(package, each) is not None
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'absent'"):
        package.absent  # noqa: B018


def test_documents_use_public_names_only():
    """README and docs import public names from packages, never from pipeline._core or from a module of a package."""
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for code in re.findall(r"```python\n(.*?)```", page.read_text(), re.S):
            assert "_core" not in code, page.name
            for package, names in re.findall(r"^from (pipeline[\w.]*) import (.+)$", code, re.M):
                public = PUBLIC["pipeline"] if package == "pipeline" else PUBLIC.get(package)
                known = public.split() if public else dir(errors) if package == "pipeline.errors" else []
                assert set(names.split(", ")) <= set(known), f"{page.name}: from {package} import {names}"
