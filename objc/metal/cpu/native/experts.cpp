// experts_gate_up_… and experts_down_… of quantised matrices (shaders/experts.metal).
#include "epilogue.h"
#include "format_names.h"

namespace OB_NAMESPACE {

// The stacks, bindings and arguments of a launch of experts_gate_up.
struct GateUp {
    const metallib_launch *launch;
    const ExpertArgs &args;
    Weights gate, up;
    const float *x;
    const uint32_t *ids;
    Bias gate_bias, up_bias;
    float *h;

    GateUp(const WeightFormat &format, const metallib_launch *l)
        : GateUp(format, l, l->buffers + 2 * format.bindings) {}
    GateUp(const WeightFormat &format, const metallib_launch *l, void *const *b)
        : launch(l), args(*(const ExpertArgs *)b[6]), gate(format, l->buffers, args.inputs, args.group_size),
          up(format, l->buffers + format.bindings, args.inputs, args.group_size), x((const float *)b[0]),
          ids((const uint32_t *)b[1]), gate_bias{b[2], args.bias}, up_bias{b[3], args.bias}, h((float *)b[4]) {}

    uint32_t id(size_t pair) const { return args.dense ? 0 : ids[pair]; }

    // Whether gate and up are one matrix, as in an MLP without a gate: its products are needed once.
    bool one() const { return launch->buffers[0] == launch->buffers[gate.format.bindings]; }

    // Tiles tile … end - 1 of one pair of row and expert.
    void pair(uint32_t id, size_t pair, uint32_t tile, uint32_t end, const Activations &a) const {
        Weights g = gate.matrix(id, args.expert_rows), u = up.matrix(id, args.expert_rows);
        Bias g_bias = gate_bias.matrix(id, args.outputs), u_bias = up_bias.matrix(id, args.outputs);
        for (; tile < end; tile++) {
            Tile at(tile, args.outputs);
            float y[TILE];
            for (int half = 0; half < 2; half++) {
                if (at.count[half] == 0) continue;
                __m256 of_gate = g.format.matvec(g, at.first[half], a);
                __m256 of_up = one() ? of_gate : u.format.matvec(u, at.first[half], a);
                __m256 gates = g_bias.add(of_gate, at.first[half]), ups = u_bias.add(of_up, at.first[half]);
                _mm256_storeu_ps(y + 8 * half, activate(gates, ups, args.activation));
            }
            at.store(h + pair * args.outputs, y);
        }
    }
};

static void gate_up(const WeightFormat &format, const metallib_launch *launch, uint32_t first, uint32_t count,
                    void *scratch, metallib_entry shader) {
    GateUp all(format, launch);
    const ExpertArgs &args = all.args;
    if (rows_together(format, args.inputs, args.group_size, args.outputs) == 0 || args.row_step != 1)
        return shader(launch, first, count);
    const uint32_t width = launch->threadgroups[0], height = launch->threadgroups[1];
    Activations a;
    place(format, a, (char *)scratch, 1, args.inputs, args.group_size);
    uint32_t row = OB_NONE;  // that `a` holds
    bool finite = false;
    while (count > 0) {
        uint32_t tile = first % width, next = first / width % height, k = first / width / height;
        uint32_t take = least(width - tile, count);
        size_t pair = (size_t)next * args.top_k + k;
        if (next < args.rows && row != next) {
            row = next;
            finite = format.quantise(a, 0, all.x + (size_t)row * args.inputs);
        }
        if (next < args.rows && finite && all.id(pair) < args.experts)
            all.pair(all.id(pair), pair, tile, tile + take, a);
        else shader(launch, first, take);
        first += take, count -= take;
    }
}

struct Down {
    const metallib_launch *launch;
    const ExpertArgs &args;
    Weights weight;
    const float *h;
    const uint32_t *ids;
    const float *weights;
    Bias bias;
    float *y;

    Down(const WeightFormat &format, const metallib_launch *l) : Down(format, l, l->buffers + format.bindings) {}
    Down(const WeightFormat &format, const metallib_launch *l, void *const *b)
        : launch(l), args(*(const ExpertArgs *)b[5]), weight(format, l->buffers, args.inputs, args.group_size),
          h((const float *)b[0]), ids((const uint32_t *)b[1]), weights((const float *)b[2]), bias{b[3], args.bias},
          y((float *)b[4]) {}

    // The inputs of all experts of a row, in a[k]; false where one is not finite.
    bool prepare(Activations *a, uint32_t row) const {
        for (uint32_t k = 0; k < args.top_k; k++) {
            size_t pair = (size_t)row * args.top_k + k;
            if (ids[pair] < args.experts && !weight.format.quantise(a[k], 0, h + pair * args.inputs)) return false;
        }
        return true;
    }

    void tiles(uint32_t row, uint32_t tile, uint32_t end, const Activations *a) const {
        const uint32_t *id = ids + (size_t)row * args.top_k;
        const float *share = weights + (size_t)row * args.top_k;
        Weights own = weight;
        for (; tile < end; tile++) {
            Tile at(tile, args.outputs);
            float lanes[TILE];
            for (int half = 0; half < 2; half++) {
                if (at.count[half] == 0) continue;
                __m256 sum = _mm256_setzero_ps();
                for (uint32_t k = 0; k < args.top_k; k++) {
                    if (id[k] >= args.experts) continue;
                    own.seek(weight, id[k], args.outputs);
                    __m256 part = own.format.matvec(own, at.first[half], a[k]);
                    part = bias.add(part, (size_t)id[k] * args.outputs + at.first[half]);
                    sum = _mm256_fmadd_ps(_mm256_set1_ps(share[k]), part, sum);
                }
                _mm256_storeu_ps(lanes + 8 * half, sum);
            }
            at.store(y + (size_t)row * args.outputs, lanes);
        }
    }
};

static void down(const WeightFormat &format, const metallib_launch *launch, uint32_t first, uint32_t count,
                 void *scratch, metallib_entry shader) {
    Down all(format, launch);
    const ExpertArgs &args = all.args;
    if (rows_together(format, args.inputs, args.group_size, args.outputs) == 0 || args.top_k > OB_MAX_TOP_K ||
        args.top_k * Activations::bytes(1, args.inputs, format.group_of(args.group_size)) > CPU_SCRATCH_BYTES) {
        return shader(launch, first, count);
    }
    const uint32_t width = launch->threadgroups[0];
    Activations a[OB_MAX_TOP_K];
    char *memory = (char *)scratch;
    for (uint32_t k = 0; k < args.top_k; k++) memory = place(format, a[k], memory, 1, args.inputs, args.group_size);
    while (count > 0) {
        uint32_t tile = first % width, row = first / width, take = least(width - tile, count);
        if (row < args.rows && all.prepare(a, row)) all.tiles(row, tile, tile + take, a);
        else shader(launch, first, take);
        first += take, count -= take;
    }
}

#define OB_ROW(name)                                               \
    {"experts_gate_up_" #name, of_format<gate_up, format_##name>}, \
        {"experts_down_" #name, of_format<down, format_##name>},
OB_NATIVE_TABLE(experts, OB_NATIVE_WEIGHTS(OB_ROW))

}  // namespace OB_NAMESPACE
