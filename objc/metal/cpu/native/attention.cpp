// attention_f32, attention_f16 and attention_q8 (shaders/attention.metal).
#include "attention.h"
#include "names.h"

namespace OB_NAMESPACE {

template <typename C>
static void attention(const metallib_launch *launch, uint32_t first, uint32_t count, void *scratch,
                      metallib_entry shader) {
    void *const *b = launch->buffers;
    const AttentionArgs &args = *(const AttentionArgs *)b[9];
    uint32_t larger = args.head_dim > args.v_dim ? args.head_dim : args.v_dim;
    bool fits = args.head_dim % WIDTH == 0 && args.v_dim % WIDTH == 0 && larger <= LARGEST_DIM;
    if (!fits || launch->threadgroups[2] != 1) return shader(launch, first, count);
    Attention<C> all = {args,
                        (const float *)b[0],
                        (const C *)b[1],
                        (const C *)b[2],
                        (const uint32_t *)b[3],
                        (const uint32_t *)b[4],
                        (const uint32_t *)b[5],
                        b[6],
                        (float *)b[7],
                        args.heads / args.kv_heads,
                        (Queries *)scratch};
    // Indices go down the rows of a key-value head first, so that those of a range share keys and values.
    uint32_t height = launch->threadgroups[1];
    while (count > 0) {
        uint32_t row = first % height, take = least(count, height - row);
        uint32_t rows = row < args.rows ? least(take, args.rows - row) : 0, held = all.held(row, rows);
        all.run(first / height, row, held);
        if (held < rows) {  // the shader fails the row; its indices go along the heads first
            take = held + 1;
            shader(launch, (row + held) * launch->threadgroups[0] + first / height, 1);
        }
        first += take, count -= take;
    }
}

OB_NATIVE_TABLE(attention, {"attention_f32", attention<float>}, {"attention_f16", attention<half>},
                {"attention_q8", attention<q8>})

}  // namespace OB_NAMESPACE
