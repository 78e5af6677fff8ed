// Products of MLX's affine formats.
#include "formats.h"

namespace OB_NAMESPACE {

OB_FORMAT(q4_f32, Packed<4, float>)
OB_FORMAT(q4_f16, Packed<4, half>)
OB_FORMAT(q4_bf16, Packed<4, bfloat>)
OB_FORMAT(q8_f32, Packed<8, float>)
OB_FORMAT(q8_f16, Packed<8, half>)
OB_FORMAT(q8_bf16, Packed<8, bfloat>)

}  // namespace OB_NAMESPACE
