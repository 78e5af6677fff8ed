"""A checkpoint of 5 GB opens at once: what benchmarks/opening.py says holds, and its files are what they claim to
be."""

import opening  # noqa: E402
import pytest

import pipeline as p


@pytest.mark.parametrize("kind", ["gguf", "mlx"])
def test_five_gigabytes(tmp_path, kind):
    pytest.importorskip("gguf")
    layers = opening.layers_of(5)
    path = tmp_path / ("model.gguf" if kind == "gguf" else "mlx")
    (opening.write_gguf if kind == "gguf" else opening.write_mlx)(path, layers)
    file = path if kind == "gguf" else path / "model.safetensors"
    assert 4.7e9 < file.stat().st_size < 5.3e9 and file.stat().st_blocks * 512 < 1e6  # sparse
    found = opening.measure(path, runs=1)
    assert found["repacked"] == 0 and found["mapped"] > 4.7
    assert found["peak"] < opening.MEGABYTES  # how long it takes, the benchmark judges on an idle machine


def test_every_tensor_has_its_place(tmp_path):
    opening.write_mlx(tmp_path / "mlx", 1)
    with p.open_checkpoint(tmp_path / "mlx") as checkpoint:
        p.load_model(checkpoint, device="cpu")
        assert checkpoint.unused == ()
