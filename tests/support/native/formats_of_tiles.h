// Native kernels of those formats alone that AMX multiplies in a way of its own. All others have the code of VNNI.
#define OB_NATIVE_WEIGHTS(EACH) EACH(q4_f32) EACH(q4_f16) EACH(q4_bf16) EACH(q8_f32) EACH(q8_f16) EACH(q8_bf16)
