"""Makes shaders/weights/codebook_*.h: the codebooks of GGUF's IQ types, as the package gguf has them.

    pip install gguf
    python tests/data/make_codebooks.py
    clang-format -i shaders/weights/codebook_*.h

An entry has the numbers of its weights' magnitudes, the first in the lowest bits. Two bits of a byte of a weight are
enough for three magnitudes, three for eight.
"""

from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
SHADERS = HERE.parent.parent / "shaders" / "weights"
# IQ1_M has the codebook of IQ1_S.
TYPES = ("IQ1_S", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S")
HEADER = """\
// The codebook of {users}: {entries} entries of {weights} weights, {bits} bits each, the first in the lowest.
// These number {magnitudes}. tests/data/make_codebooks.py makes this file.
#ifndef OB_WEIGHTS_CODEBOOK_{kind}_H
#define OB_WEIGHTS_CODEBOOK_{kind}_H

constant ushort codebook_{name}[{entries}] = {{{numbers}}};

#endif
"""


def entries_of(kind: str) -> tuple[tuple[int, ...], np.ndarray, int]:
    """The magnitudes, and numbers of them [entries, weights], of bits each, as the package has them."""
    import gguf

    quant = gguf.quants._type_traits[gguf.GGMLQuantizationType[kind]]
    quant.init_grid()
    magnitudes = np.array(quant.grid_map)
    numbers = (quant.grid.reshape(quant.grid_shape)[..., None] == magnitudes).argmax(-1)
    return tuple(quant.grid_map), numbers, int(len(magnitudes) - 1).bit_length()


def packed(numbers: np.ndarray, bits: int) -> np.ndarray:
    return (numbers << np.arange(numbers.shape[1]) * bits).sum(1)


def header(kind: str) -> str:
    magnitudes, numbers, bits = entries_of(kind)
    *most, last = map(str, magnitudes)
    return HEADER.format(
        kind=kind,
        name=kind.lower(),
        users="IQ1_S and IQ1_M" if kind == "IQ1_S" else kind,
        entries=len(numbers),
        weights={4: "four", 8: "eight"}[numbers.shape[1]],
        bits={2: "two", 3: "three"}[bits],
        magnitudes=f"{', '.join(most)} and {last}",
        numbers=", ".join(f"0x{entry:0{-(-bits * numbers.shape[1] // 4)}X}" for entry in packed(numbers, bits)),
    )


def main() -> None:
    for kind in TYPES:
        (SHADERS / f"codebook_{kind.lower()}.h").write_text(header(kind))


if __name__ == "__main__":
    main()
