// Attention of a few queries to the keys and values of one head, block by block (see shaders/attention.metal).
#ifndef OB_NATIVE_ATTENTION_H
#define OB_NATIVE_ATTENTION_H

#include "attention_rows.h"

namespace OB_NAMESPACE {

// Queries that go through keys and values together; positions that they weigh at a time: those of a block of the cache.
enum { QUERIES = 16, BLOCK = OB_CACHE_BLOCK, LARGEST_DIM = 2048 };
static_assert(BLOCK % WIDTH == 0, "BLOCK");

// A thread keeps this of its queries. It works on them in tiles of 4, 2 or 1.
struct Queries {
    float q[QUERIES * LARGEST_DIM];  // tile by tile: WIDTH columns of each of its queries, then the next columns
    float y[QUERIES * LARGEST_DIM];  // [query, v_dim], not divided by total yet
    float weights[(BLOCK + 8) * 4];  // of one tile and block: [position, query]; scores at first
    float top[QUERIES], total[QUERIES], rescale[QUERIES];
    uint32_t starts[QUERIES];  // first position that a query sees
    uint32_t counts[QUERIES];  // positions up to its own
    size_t indices[QUERIES];   // which of all queries it is
};
static_assert(sizeof(Queries) <= CPU_SCRATCH_BYTES, "Queries");

// Rows to fetch before they are needed, `row` elements each.
template <typename C>
struct Ahead {
    const C *rows;
    size_t row;
};

template <typename C>
struct Attention {
    const AttentionArgs &args;
    const float *q;
    const C *k_cache, *v_cache;
    const uint32_t *blocks, *slots, *positions;
    const void *sinks;
    float *y;
    uint32_t sharing;  // query heads of a key-value head
    Queries *t;

    // How many of the rows, from the first on, have a place that the caches have, and all blocks that they see.
    uint32_t held(uint32_t row, uint32_t rows) const {
        uint32_t n = 0;
        while (n < rows && slots[row + n] < args.slots && (args.window || positions[row + n] < context()) &&
               has_blocks(row + n))
            n++;
        return n;
    }

    bool has_blocks(uint32_t row) const {
        const uint32_t *table = table_of(row);
        uint32_t first = start(row) / BLOCK, entry = first % args.width, largest = 0;
        for (uint32_t left = (count(row) - 1) / BLOCK - first + 1; left > 0; left--) {
            largest = largest > table[entry] ? largest : table[entry];
            entry = entry + 1 < args.width ? entry + 1 : 0;
        }
        return largest < args.blocks;
    }

    // Positions that a slot holds.
    uint32_t context() const { return args.width * BLOCK; }

    const uint32_t *table_of(uint32_t row) const { return blocks + (size_t)slots[row] * args.width; }

    // Rows that follow each other in one sequence go through together, as far as there is room.
    void run(uint32_t kv, uint32_t row, uint32_t rows) const {
        uint32_t most = sharing < QUERIES ? QUERIES / sharing : 1;
        while (rows > 0) {
            uint32_t n = 1;
            while (n < least(rows, most) && slots[row + n] == slots[row] && count(row + n) == count(row) + n &&
                   count(row + n) - start(row) <= context())
                n++;
            for (uint32_t head = 0; head < sharing; head += QUERIES) {
                uint32_t queries = gather(row, n, kv * sharing + head, least(QUERIES, sharing - head));
                attend(queries, kv, table_of(row));
                finish(queries);
            }
            row += n, rows -= n;
        }
    }

    size_t k_row() const { return row_of(k_cache, args.head_dim); }
    size_t v_row() const { return row_of(v_cache, args.v_row); }

    uint32_t count(uint32_t row) const { return least(positions[row], (uint32_t)INT32_MAX) + 1; }

    uint32_t start(uint32_t row) const {
        uint32_t seen = count(row), window = args.window;
        if (window & OB_CHUNKED) window = (seen - 1) % (window & ~OB_CHUNKED) + 1;
        return seen - least(seen, window ? least(window, context()) : context());
    }

    static uint32_t tile(uint32_t queries) { return queries >= 4 ? 4 : queries >= 2 ? 2 : 1; }

    // A head's sink, -inf where there are none.
    float sink(uint32_t head) const {
        if (args.sinks == OB_F32) return ((const float *)sinks)[head];
        if (args.sinks == OB_F16) return _cvtsh_ss(((const uint16_t *)sinks)[head]);
        if (args.sinks == 0) return -__builtin_inff();
        uint32_t bits = (uint32_t)((const uint16_t *)sinks)[head] << 16;
        float value;
        memcpy(&value, &bits, sizeof value);
        return value;
    }

    // `heads` heads from `head` on of each of the rows; returns how many queries these are.
    uint32_t gather(uint32_t row, uint32_t rows, uint32_t head, uint32_t heads) const {
        uint32_t dim = args.head_dim, queries = 0, n;
        for (uint32_t r = row; r < row + rows; r++) {
            for (uint32_t h = head; h < head + heads; h++, queries++) {
                t->indices[queries] = (size_t)r * args.heads + h;
                t->counts[queries] = count(r);
                t->starts[queries] = start(r);
                float top = sink(h);
                t->top[queries] = top, t->total[queries] = top == -__builtin_inff() ? 0 : 1;
            }
        }
        memset(t->y, 0, sizeof(float) * queries * args.v_dim);
        for (uint32_t i = 0; i < queries; i += n) {
            n = tile(queries - i);
            for (uint32_t h = 0; h < n; h++) {
                const float *from = q + t->indices[i + h] * dim;
                float *to = t->q + i * dim + h * WIDTH;
                for (uint32_t c = 0; c < dim; c += WIDTH) store(to + c * n, load(from + c));
            }
        }
        return queries;
    }

    // Goes through the blocks of a slot's `table` where the first query sees something.
    void attend(uint32_t queries, uint32_t kv, const uint32_t *table) const {
        uint32_t end = t->counts[queries - 1], first = t->starts[0] / BLOCK * BLOCK, n;
        uint32_t entry = first / BLOCK % args.width;
        size_t rows = first_row(table[entry], kv);
        for (; first < end; first += BLOCK) {
            const C *k = k_cache + rows * k_row(), *v = v_cache + rows * v_row();
            // The next block is fetched meanwhile: its keys with the first tile, its values with the second.
            entry = entry + 1 < args.width ? entry + 1 : 0;
            if (first + BLOCK < end) rows = first_row(table[entry], kv);
            Ahead<C> next[2] = {{k_cache + rows * k_row(), k_row()}, {v_cache + rows * v_row(), v_row()}};
            int fetched = first + BLOCK < end ? 0 : 2;
            for (uint32_t i = 0; i < queries; i += n) {
                n = tile(queries - i);
                int fetch = fetched == 2 ? 0 : i + n < queries ? 1 : 2 - fetched;
                if (n == 4) block<4>(i, first, k, v, next + fetched, fetch);
                else if (n == 2) block<2>(i, first, k, v, next + fetched, fetch);
                else block<1>(i, first, k, v, next + fetched, fetch);
                fetched += fetch;
            }
        }
    }

    // The first row of a head's keys and values in a block.
    size_t first_row(uint32_t block, uint32_t kv) const {
        return ((size_t)least(block, args.blocks - 1) * args.kv_heads + kv) * BLOCK;
    }

    void finish(uint32_t queries) const {
        uint32_t dim = args.v_dim;
        for (uint32_t i = 0; i < queries; i++) {
            const float *from = t->y + i * dim;
            float *to = y + t->indices[i] * dim;
            Floats total = splat(t->total[i]);
            for (uint32_t c = 0; c < dim; c += WIDTH) store(to + c, div(load(from + c), total));
        }
    }

    // The block of positions from `first` on, whose keys and values are k and v, for H queries from `query` on. Those of
    // an earlier row begin and end to see earlier than the others: what they do not see has no weight and is not
    // multiplied.
    template <int H>
    void block(uint32_t query, uint32_t first, const C *k, const C *v, const Ahead<C> *next, int fetch) const {
        uint32_t from[H], to[H];
        for (int h = 0; h < H; h++) {
            uint32_t start = t->starts[query + h], count = t->counts[query + h];
            from[h] = first < start ? least(start - first, BLOCK) : 0;
            to[h] = first < count ? least(count - first, BLOCK) : 0;
        }
        uint32_t end = to[H - 1], begin = from[0];
        if (end <= begin) return;
        score<H>(query, begin, end, k, next, fetch);
        for (int h = 0; h < H; h++) {
            for (uint32_t j = begin; j < from[h] && j < end; j++) t->weights[j * H + h] = -__builtin_inff();
            for (uint32_t j = to[h]; j < end; j++) t->weights[j * H + h] = -__builtin_inff();
        }
        weigh<H>(query, begin / WIDTH * WIDTH, (end + WIDTH - 1) / WIDTH * WIDTH);
        accumulate<H>(query, from, to, v);
    }

    // Weighted values of a block: of what only some of the queries see one by one, of what all see together; each
    // query's values in the order of positions.
    template <int H>
    void accumulate(uint32_t query, const uint32_t *from, const uint32_t *to, const C *v) const {
        static const float same[] = {1, 1, 1, 1};
        uint32_t dim = args.v_dim, first = from[H - 1], last = to[0] > first ? to[0] : first;
        const float *rescale = t->rescale + query;
        float *sums = t->y + query * dim;
        if (from[0] < first) {
            for (int h = 0; h < H; h++) {
                for (uint32_t c = h * dim; c < (h + 1) * dim; c += WIDTH)
                    store(sums + c, mul(load(sums + c), splat(rescale[h])));
                for (uint32_t j = from[h]; j < least(first, to[h]); j++) add_one<H>(h, j, sums, v + j * v_row());
            }
            rescale = same;
        }
        add_values<H>(sums, rescale, t->weights + first * H, v + first * v_row(), last - first, dim, args.v_row);
        for (int h = 0; h < H; h++) {
            for (uint32_t j = last; j < to[h]; j++) add_one<H>(h, j, sums, v + j * v_row());
        }
    }

    // Position j of a block, for query h of a tile.
    template <int H>
    void add_one(int h, uint32_t j, float *sums, const C *row) const {
        add_row(sums + h * args.v_dim, t->weights[j * H + h], row, args.v_dim, args.v_row);
    }

    // Scores of positions begin … end - 1 of a block, and -inf from the next lower and up to the next higher multiple of
    // WIDTH.
    template <int H>
    void score(uint32_t query, uint32_t begin, uint32_t end, const C *k, const Ahead<C> *next, int fetch) const {
        const float *tile = t->q + query * args.head_dim;
        score_rows<H>(tile, begin, end, k + begin * k_row(), next, fetch);
        uint32_t low = begin / WIDTH * WIDTH * H, high = (end + WIDTH - 1) / WIDTH * WIDTH * H;
        if (args.softcap > 0) cap(t->weights + low, high - low);
        for (uint32_t i = low; i < begin * H; i++) t->weights[i] = -__builtin_inff();
        for (uint32_t i = end * H; i < high; i++) t->weights[i] = -__builtin_inff();
    }

    // Positions j … end - 1 of a block, whose keys follow each other from k on.
    template <int H>
    void score_rows(const float *tile, uint32_t j, uint32_t end, const C *k, const Ahead<C> *next, int fetch) const {
        enum { KEYS = H == 1 ? 8 : SUMS / H, FEWER = 4 / H };
        uint32_t dim = args.head_dim;
        for (; j + KEYS <= end; j += KEYS, k += KEYS * k_row()) {
            for (int i = 0; i < fetch; i++) prefetch(next[i].rows + j * next[i].row, KEYS * next[i].row * sizeof(C));
            products<H, KEYS>(tile, k, KEYS, dim, args.scale, t->weights + j * H);
        }
        for (; j < end; j += FEWER, k += FEWER * k_row()) {
            products<H, FEWER>(tile, k, end - j, dim, args.scale, t->weights + j * H);
        }
    }

    void cap(float *scores, uint32_t n) const {
        Floats most = splat(args.softcap);
        for (uint32_t i = 0; i < n; i += WIDTH) store(scores + i, mul(most, tanh(div(load(scores + i), most))));
    }

    // Scores of positions begin … end - 1 become exp(score - top); top, total and rescale of the H queries follow.
    template <int H>
    void weigh(uint32_t query, uint32_t begin, uint32_t end) const {
        const float none = -__builtin_inff();
        begin *= H, end *= H;
        Floats most = splat(none), sum[H];
        for (uint32_t i = begin; i < end; i += WIDTH) most = max(load(t->weights + i), most);
        float tops[WIDTH], change[WIDTH] = {}, parts[WIDTH * H];
        store(tops, most);
        for (int h = 0; h < H; h++) {
            float before = t->top[query + h], top = before;
            for (int i = h; i < WIDTH; i += H) top = tops[i] > top ? tops[i] : top;
            float shift = top == none ? 0 : top;  // -inf - -inf is no weight
            for (int i = h; i < WIDTH; i += H) tops[i] = shift;
            change[h] = before - shift;
            t->top[query + h] = top;
            sum[h] = splat(0);
        }
        Floats shift = load(tops);
        for (uint32_t i = begin; i < end; i += WIDTH * H) {
            for (int h = 0; h < H; h++) {
                float *at = t->weights + i + h * WIDTH;
                Floats weight = exp_of_negative(sub(load(at), shift));
                store(at, weight);
                sum[h] = add(sum[h], weight);
            }
        }
        // Positions that are the same modulo WIDTH have a sum each; these add up in one order whatever H is.
        for (int h = 0; h < H; h++) store(parts + h * WIDTH, sum[h]);
        for (int half = WIDTH / 2; half > 0; half /= 2) {
            for (int i = 0; i < half * H; i++) parts[i] += parts[i + half * H];
        }
        store(change, exp_of_negative(load(change)));
        for (int h = 0; h < H; h++) {
            t->rescale[query + h] = change[h];
            t->total[query + h] = __builtin_fmaf(t->total[query + h], change[h], parts[h]);
        }
    }
};

}  // namespace OB_NAMESPACE

#endif
