// Products of GGUF's blocks, and of MLX's mxfp4.
#include "block_formats_coded.h"
#include "formats.h"

namespace OB_NAMESPACE {

OB_FORMAT(mxfp4, Blocks<WordsMXFP4>)
OB_FORMAT(gguf_q4_0, Blocks<BlockQ4_0>)
OB_FORMAT(gguf_q4_1, Blocks<BlockQ4_1>)
OB_FORMAT(gguf_q5_0, Blocks<BlockQ5_0>)
OB_FORMAT(gguf_q5_1, Blocks<BlockQ5_1>)
OB_FORMAT(gguf_q8_0, Blocks<BlockQ8_0>)
OB_FORMAT(gguf_mxfp4, Blocks<BlockMXFP4>)
OB_FORMAT(gguf_q4_k, Blocks<BlockQ4_K>)
OB_FORMAT(gguf_q5_k, Blocks<BlockQ5_K>)
OB_FORMAT(gguf_q6_k, Blocks<BlockQ6_K>)
OB_FORMAT(gguf_iq4_nl, Blocks<BlockIQ4_NL>)
OB_FORMAT(gguf_iq4_xs, Blocks<BlockIQ4_XS>)
OB_FORMAT(gguf_q2_k, Blocks<BlockQ2_K>)
OB_FORMAT(gguf_q3_k, Blocks<BlockQ3_K>)
OB_FORMAT(gguf_iq3_s, Blocks<BlockIQ3_S>)
OB_FORMAT(gguf_iq2_s, Blocks<BlockIQ2_S>)

}  // namespace OB_NAMESPACE
