"""The golden checkpoints of the families, written in any format."""

from support.families import files, golden
from support.families.gguf_layout import write_gguf
from support.families.layouts import write_mlx


def stored(name, storage, folder):
    """The checkpoint of the case `name` in that format."""
    made = golden.load(name)[0]
    if storage == "bf16":
        files.write_folder(folder, name, made, "BF16")
    elif storage == "mlx":
        write_mlx(folder, name, made)
    else:
        write_gguf(folder / "model.gguf", name, made, storage)
        return folder / "model.gguf"
    return folder
