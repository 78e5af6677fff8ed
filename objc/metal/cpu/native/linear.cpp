// linear_… and linear3_… over quantised matrices (shaders/linear.metal).
#include "epilogue.h"
#include "format_names.h"

namespace OB_NAMESPACE {

struct Matrix {
    Weights weight;
    Output out;
    uint32_t tiles;

    Matrix(const Weights &weight_, const Output &out_)
        : weight(weight_), out(out_), tiles((out_.outputs + TILE - 1) / TILE) {}
};

// A launch: up to three matrices over one input. Indices go down the row tiles of an output tile first,
// so that a range of them is a few tiles of weights for many rows.
struct Linear {
    const metallib_launch *launch;
    metallib_entry shader;
    const Matrix *matrices;
    int count;
    const float *x;
    uint32_t rows, inputs, group, together;
    char *scratch;

    void fall_back(uint32_t tile, uint32_t tiles, uint32_t row_tile, uint32_t row_tiles) const {
        for (uint32_t r = row_tile; r < row_tile + row_tiles; r++) {
            shader(launch, r * launch->threadgroups[0] + tile, tiles);
        }
    }

    // `tiles` output tiles from `tile` on for the rows of row_tiles tiles, at most `together`. Where a row is
    // not finite the shader goes first, and the others are written again, so that they do not depend on it.
    void block(uint32_t tile, uint32_t tiles, uint32_t row_tile, uint32_t row_tiles) const {
        uint32_t first = row_tile * OB_LINEAR_ROWS, end = least(rows, first + row_tiles * OB_LINEAR_ROWS);
        if (first >= end) return;
        Activations a;
        float (*y)[TILE] = (float (*)[TILE])place(matrices->weight.format, a, scratch, end - first, inputs, group);
        uint64_t bad = quantise_all(matrices->weight.format, a, end - first,
                                    [&](uint32_t r) { return x + (size_t)(first + r) * inputs; });
        if (bad != 0) fall_back(tile, tiles, row_tile, row_tiles);
        for (int m = 0; m < count; tile -= least(tile, matrices[m].tiles), m++) {
            const Matrix &matrix = matrices[m];
            for (; tiles > 0 && tile < matrix.tiles; tile++, tiles--) {
                Tile at(tile, matrix.out.outputs);
                multiply(matrix.weight, at, a, y);
                for (uint32_t r = first; r < end; r++) {
                    if (!has(bad, r - first)) matrix.out.store(at, r, y[r - first]);
                }
            }
        }
    }

    // Output tiles tile … for row tiles row_tile ….
    void rectangle(uint32_t tile, uint32_t tiles, uint32_t row_tile, uint32_t row_tiles) const {
        uint32_t step = together / OB_LINEAR_ROWS;
        while (row_tiles > 0) {
            uint32_t take = least(step, row_tiles);
            block(tile, tiles, row_tile, take);
            row_tile += take, row_tiles -= take;
        }
    }

    void run(uint32_t first, uint32_t units) const {
        uint32_t height = launch->threadgroups[1];
        while (units > 0) {
            uint32_t tile = first / height, row_tile = first % height;
            bool whole = row_tile == 0 && units >= height;
            uint32_t tiles = whole ? units / height : 1, row_tiles = whole ? height : least(units, height - row_tile);
            rectangle(tile, tiles, row_tile, row_tiles);
            first += tiles * row_tiles, units -= tiles * row_tiles;
        }
    }
};

static void linear(const WeightFormat &format, const metallib_launch *launch, uint32_t first, uint32_t count,
                   void *scratch, metallib_entry shader) {
    void *const *matrices = launch->buffers, *const *b = matrices + format.bindings;
    const LinearArgs &args = *(const LinearArgs *)b[5];
    uint32_t together = rows_together(format, args.inputs, args.group_size, args.outputs);
    if (together == 0 || launch->threadgroups[2] != 1) return shader(launch, first, count);
    const float *add = args.has_add ? (const float *)b[2] : nullptr,
                *gate = args.has_gate ? (const float *)b[3] : nullptr;
    Output out = {(float *)b[4], {b[1], args.bias}, add, gate, args.outputs, args.scale, args.softcap};
    Matrix matrix({format, matrices, args.inputs, args.group_size}, out);
    Linear all = {launch,    shader,      &matrix,         1,        (const float *)b[0],
                  args.rows, args.inputs, args.group_size, together, (char *)scratch};
    all.run(first, count);
}

static void linear3(const WeightFormat &format, const metallib_launch *launch, uint32_t first, uint32_t count,
                    void *scratch, metallib_entry shader) {
    void *const *parts = launch->buffers, *const *b = parts + 3 * format.bindings;
    const Linear3Args &args = *(const Linear3Args *)b[7];
    uint32_t fewest = least(args.outputs0, least(args.outputs1, args.outputs2));
    uint32_t together = rows_together(format, args.inputs, args.group_size, fewest);
    if (together == 0 || launch->threadgroups[2] != 1) return shader(launch, first, count);
    const uint32_t outputs[3] = {args.outputs0, args.outputs1, args.outputs2},
                   types[3] = {args.bias0, args.bias1, args.bias2};
    auto matrix = [&](int i) {
        Output out = {(float *)b[4 + i], {b[1 + i], types[i]}, nullptr, nullptr, outputs[i], 1, 0};
        return Matrix({format, parts + format.bindings * i, args.inputs, args.group_size}, out);
    };
    Matrix matrices[3] = {matrix(0), matrix(1), matrix(2)};
    Linear all = {launch,    shader,      matrices,        3,        (const float *)b[0],
                  args.rows, args.inputs, args.group_size, together, (char *)scratch};
    all.run(first, count);
}

#define OB_ROW(name) \
    {"linear_" #name, of_format<linear, format_##name>}, {"linear3_" #name, of_format<linear3, format_##name>},
OB_NATIVE_TABLE(linear, OB_NATIVE_WEIGHTS(OB_ROW))

}  // namespace OB_NAMESPACE
