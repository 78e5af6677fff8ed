// experts_gate_up_grouped_… and experts_down_grouped_… of quantised matrices (shaders/experts_grouped.metal).
#include "epilogue.h"
#include "format_names.h"

namespace OB_NAMESPACE {

// The groups of experts, and no position or pair beyond those that there are (shaders/experts_grouped.metal).
struct Groups {
    const uint32_t *pairs, *offsets;  // NULL where one expert has all rows
    uint32_t all;                     // pairs, at least 1

    uint32_t begin(uint32_t expert) const { return offsets ? offsets[expert] : 0; }
    uint32_t end(uint32_t expert) const { return offsets ? least(offsets[expert + 1], all) : all; }
    uint32_t pair(uint32_t position) const { return least(pairs[position], all - 1); }
};

// Goes through a range of a launch whose grid is output tiles × experts: work(expert, tile, end, false) for
// each expert that has positions. It gives false where a position is not finite: then the shader does these
// tiles, and work(…, true) all other positions again, so that they do not depend on it.
template <typename Work>
OB_INLINE void each_expert(const metallib_launch *launch, uint32_t first, uint32_t count, metallib_entry shader,
                           const Groups &groups, uint32_t experts, Work work) {
    const uint32_t width = launch->threadgroups[0];
    while (count > 0) {
        uint32_t tile = first % width, expert = first / width, take = least(width - tile, count);
        bool any = expert < experts && groups.begin(expert) < groups.end(expert);
        if (any && !work(expert, tile, tile + take, false)) {
            shader(launch, first, take);
            work(expert, tile, tile + take, true);
        }
        first += take, count -= take;
    }
}

static void gate_up(const WeightFormat &format, const metallib_launch *launch, uint32_t first, uint32_t count,
                    void *scratch, metallib_entry shader) {
    void *const *matrices = launch->buffers, *const *b = matrices + 2 * format.bindings;
    const ExpertArgs &args = *(const ExpertArgs *)b[6];
    const uint32_t inputs = args.inputs, group = args.group_size;
    const uint32_t together = rows_together(format, inputs, group, args.outputs);
    char *const memory = (char *)scratch;
    if (together == 0 || args.row_step != 1) return shader(launch, first, count);
    Weights gates(format, matrices, inputs, group), ups(format, matrices + format.bindings, inputs, group);
    const float *x = (const float *)b[0];
    const uint32_t *pairs = (const uint32_t *)b[1], *offsets = (const uint32_t *)b[2];
    const Groups groups = {pairs, args.dense ? NULL : offsets, args.dense ? args.rows : args.rows * args.top_k};
    const bool one = matrices[0] == matrices[format.bindings];  // gate and up (experts.cpp)
    const Bias gate_biases = {b[3], args.bias}, up_biases = {b[4], args.bias};
    float *h = (float *)b[5];
    each_expert(
        launch, first, count, shader, groups, args.experts,
        [&](uint32_t expert, uint32_t tile, uint32_t end, bool again) {
            Weights gate = gates.matrix(expert, args.expert_rows), up = ups.matrix(expert, args.expert_rows);
            Bias gate_bias = gate_biases.matrix(expert, args.outputs), up_bias = up_biases.matrix(expert, args.outputs);
            for (uint32_t i = groups.begin(expert), last = groups.end(expert); i < last; i += together) {
                uint32_t rows = least(together, last - i);
                Activations a;
                float (*g)[TILE] = (float (*)[TILE])place(format, a, memory, rows, inputs, group);
                float (*u)[TILE] = one ? g : g + PARTS * rows;
                uint64_t bad = quantise_all(format, a, rows, [&](uint32_t r) {
                    return x + (size_t)(args.dense ? i + r : groups.pair(i + r) / args.top_k) * inputs;
                });
                if (bad != 0 && !again) return false;
                for (uint32_t t = tile; t < end; t++) {
                    Tile at(t, args.outputs);
                    multiply(gate, at, a, g);
                    if (!one) multiply(up, at, a, u);
                    for (uint32_t r = 0; r < rows; r++) {
                        if (has(bad, r)) continue;
                        float y[TILE];
                        for (int half = 0; half < 2; half++) {
                            if (at.count[half] == 0) continue;
                            __m256 gates_of_row = gate_bias.add(_mm256_loadu_ps(g[r] + 8 * half), at.first[half]);
                            __m256 ups_of_row = up_bias.add(_mm256_loadu_ps(u[r] + 8 * half), at.first[half]);
                            _mm256_storeu_ps(y + 8 * half, activate(gates_of_row, ups_of_row, args.activation));
                        }
                        at.store(h + (size_t)(i + r) * args.outputs, y);
                    }
                }
            }
            return true;
        });
}

static void down(const WeightFormat &format, const metallib_launch *launch, uint32_t first, uint32_t count,
                 void *scratch, metallib_entry shader) {
    void *const *matrix = launch->buffers, *const *b = matrix + format.bindings;
    const ExpertArgs &args = *(const ExpertArgs *)b[5];
    const uint32_t inputs = args.inputs, group = args.group_size;
    const uint32_t together = rows_together(format, inputs, group, args.outputs);
    char *const memory = (char *)scratch;
    if (together == 0) return shader(launch, first, count);
    Weights downs(format, matrix, inputs, group);
    const float *h = (const float *)b[0];
    const Groups groups = {(const uint32_t *)b[1], (const uint32_t *)b[2], args.rows * args.top_k};
    const Bias biases = {b[3], args.bias};
    float *z = (float *)b[4];
    each_expert(launch, first, count, shader, groups, args.experts,
                [&](uint32_t expert, uint32_t tile, uint32_t end, bool again) {
                    Weights weight = downs.matrix(expert, args.outputs);
                    Bias bias = biases.matrix(expert, args.outputs);
                    for (uint32_t i = groups.begin(expert), last = groups.end(expert); i < last; i += together) {
                        uint32_t rows = least(together, last - i);
                        Activations a;
                        float (*y)[TILE] = (float (*)[TILE])place(format, a, memory, rows, inputs, group);
                        auto row = [&](uint32_t r) { return h + (size_t)(i + r) * inputs; };
                        uint64_t bad = quantise_all(format, a, rows, row);
                        if (bad != 0 && !again) return false;
                        for (uint32_t t = tile; t < end; t++) {
                            Tile at(t, args.outputs);
                            multiply(weight, at, a, y);
                            for (uint32_t r = 0; r < rows; r++) {
                                if (has(bad, r)) continue;
                                for (int half = 0; half < 2 && bias.type != OB_NOT_STORED; half++) {
                                    if (at.count[half] == 0) continue;
                                    __m256 sum = bias.add(_mm256_loadu_ps(y[r] + 8 * half), at.first[half]);
                                    _mm256_storeu_ps(y[r] + 8 * half, sum);
                                }
                                at.store(z + (size_t)groups.pair(i + r) * args.outputs, y[r]);
                            }
                        }
                    }
                    return true;
                });
}

#define OB_ROW(name)                                                       \
    {"experts_gate_up_grouped_" #name, of_format<gate_up, format_##name>}, \
        {"experts_down_grouped_" #name, of_format<down, format_##name>},
OB_NATIVE_TABLE(experts_grouped, OB_NATIVE_WEIGHTS(OB_ROW))

}  // namespace OB_NAMESPACE
