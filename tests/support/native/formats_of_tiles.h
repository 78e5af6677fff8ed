// Native kernels of those formats alone that AMX multiplies in a way of its own. All others have the code of VNNI.
#include "names.h"
#undef OB_NATIVE_WEIGHTS
#define OB_NATIVE_WEIGHTS(EACH)      \
    EACH(q4_f32, Packed<4, float>)   \
    EACH(q4_f16, Packed<4, half>)    \
    EACH(q4_bf16, Packed<4, bfloat>) \
    EACH(q8_f32, Packed<8, float>)   \
    EACH(q8_f16, Packed<8, half>)    \
    EACH(q8_bf16, Packed<8, bfloat>)
