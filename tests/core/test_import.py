"""Importing the package costs next to nothing and brings nothing heavy."""

import subprocess
import sys

import pipeline


def modules_after(statement):
    code = f"import sys\n{statement}\nprint(' '.join(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_import_is_light():
    loaded = modules_after("import pipeline")
    assert not loaded & {"numpy", "rich", "tokenizers", "torch", "transformers", "mlx", "pipeline._core"}


def test_nothing_ever_imports_a_framework():
    loaded = modules_after("import pipeline\nfor name in pipeline.__all__: getattr(pipeline, name)")
    assert "pipeline._core" in loaded and not loaded & {"torch", "transformers", "mlx", "llama_cpp"}


def test_exported_names_resolve():
    assert {"Pipeline", "open_device", "load_model", "Generator", "errors"} <= set(pipeline.__all__)
    for name in pipeline.__all__:
        assert getattr(pipeline, name) is not None
    assert dir(pipeline) == pipeline.__all__
