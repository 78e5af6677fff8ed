"""The types of GGUF's tensors, with the elements and bytes of a block of each (ggml's `enum ggml_type`)."""

from dataclasses import dataclass

from ...errors import CheckpointError

__all__ = ["REMOVED", "TYPES", "BlockType", "block_type"]


@dataclass(frozen=True)
class BlockType:
    """A row is whole blocks of `elements` elements, `nbytes` bytes each."""

    name: str
    elements: int
    nbytes: int


# Every type that ggml defines, so that a file's header can be checked whole; which of them a kernel reads is
# another question, answered when a weight is loaded.
TYPES = {
    0: BlockType("F32", 1, 4),
    1: BlockType("F16", 1, 2),
    30: BlockType("BF16", 1, 2),
    28: BlockType("F64", 1, 8),
    24: BlockType("I8", 1, 1),
    25: BlockType("I16", 1, 2),
    26: BlockType("I32", 1, 4),
    27: BlockType("I64", 1, 8),
    2: BlockType("Q4_0", 32, 18),
    3: BlockType("Q4_1", 32, 20),
    6: BlockType("Q5_0", 32, 22),
    7: BlockType("Q5_1", 32, 24),
    8: BlockType("Q8_0", 32, 34),
    9: BlockType("Q8_1", 32, 40),
    10: BlockType("Q2_K", 256, 84),
    11: BlockType("Q3_K", 256, 110),
    12: BlockType("Q4_K", 256, 144),
    13: BlockType("Q5_K", 256, 176),
    14: BlockType("Q6_K", 256, 210),
    15: BlockType("Q8_K", 256, 292),
    16: BlockType("IQ2_XXS", 256, 66),
    17: BlockType("IQ2_XS", 256, 74),
    22: BlockType("IQ2_S", 256, 82),
    18: BlockType("IQ3_XXS", 256, 98),
    21: BlockType("IQ3_S", 256, 110),
    19: BlockType("IQ1_S", 256, 50),
    29: BlockType("IQ1_M", 256, 56),
    20: BlockType("IQ4_NL", 32, 18),
    23: BlockType("IQ4_XS", 256, 136),
    34: BlockType("TQ1_0", 256, 54),
    35: BlockType("TQ2_0", 256, 66),
    39: BlockType("MXFP4", 32, 17),
    40: BlockType("NVFP4", 64, 36),
    41: BlockType("Q1_0", 128, 18),
    42: BlockType("Q2_0", 64, 18),
}

# Types of files that older versions of llama.cpp wrote.
REMOVED = {
    4: "Q4_2",
    5: "Q4_3",
    31: "Q4_0_4_4",
    32: "Q4_0_4_8",
    33: "Q4_0_8_8",
    36: "IQ4_NL_4_4",
    37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8",
}


def block_type(number: int) -> BlockType:
    """The type of that number. CheckpointError, without file and tensor, for an unknown one."""
    if number in TYPES:
        return TYPES[number]
    if number in REMOVED:
        raise CheckpointError(f"is {REMOVED[number]}, which was removed from GGUF; convert the model again")
    raise CheckpointError(f"has type {number}, which is not one that GGUF defines; download or convert the file again")
