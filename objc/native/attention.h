// Attention of a few queries to the keys and values of one head, block by block (see shaders/attention.metal).
#ifndef OB_NATIVE_ATTENTION_H
#define OB_NATIVE_ATTENTION_H

#include "args.h"
#include "floats.h"

namespace OB_NAMESPACE {

// Queries that go through keys and values together; positions that they weigh at a time.
enum { QUERIES = 16, BLOCK = 96, LARGEST_DIM = 2048, LINE = 64 };
static_assert(BLOCK % WIDTH == 0, "BLOCK");

// What a thread keeps of them. They are worked on in tiles of 4, 2 or 1.
struct Queries {
    float q[QUERIES * LARGEST_DIM];   // tile by tile: WIDTH columns of each of its queries, then the next columns
    float y[QUERIES * LARGEST_DIM];   // [query, head_dim], not divided by total yet
    float weights[(BLOCK + 4) * 4];   // of one tile and block: [position, query]; scores at first
    float top[QUERIES], total[QUERIES], rescale[QUERIES];
    uint32_t counts[QUERIES];         // positions that a query sees
    size_t offsets[QUERIES];          // where it is in q and y
};
static_assert(sizeof(Queries) <= CPU_SCRATCH_BYTES, "Queries");

OB_INLINE void prefetch(const void *p, size_t bytes) {
    for (size_t i = 0; i < bytes; i += LINE) _mm_prefetch((const char *)p + i, _MM_HINT_T0);
}

// scores[key, query] = query · key · scale for H queries and KEYS keys, the last of the `left` ones that
// there are standing for any beyond. Each product is added up in the same order whatever H and KEYS are.
template <int H, int KEYS, typename C>
OB_INLINE void products(const float *q, const C *k, uint32_t left, uint32_t dim, float scale, float *scores) {
    Floats sum[KEYS * H];
    const C *keys[KEYS];
    for (uint32_t j = 0; j < KEYS; j++) keys[j] = k + (size_t)(j < left ? j : left - 1) * dim;
    for (int i = 0; i < KEYS * H; i++) sum[i] = splat(0);
    for (uint32_t i = 0; i < dim; i += WIDTH, q += H * WIDTH) {
        Floats key[KEYS];
        for (int j = 0; j < KEYS; j++) key[j] = load(keys[j] + i);
        for (int h = 0; h < H; h++) {
            Floats query = load_once(q + h * WIDTH);
            for (int j = 0; j < KEYS; j++) sum[j * H + h] = fma(query, key[j], sum[j * H + h]);
        }
    }
    for (int i = 0; i < KEYS * H; i += 4) _mm_storeu_ps(scores + i, _mm_mul_ps(sums(sum + i), _mm_set1_ps(scale)));
}

// y[h, :] = y[h, :] · rescale[h] + Σ_j weights[j, h] · v[j, :] for H queries and WIDTH · CHUNKS columns.
template <int H, int CHUNKS, typename C>
OB_INLINE void add_columns(float *y, const float *rescale, const float *weights, const C *v, uint32_t count, uint32_t dim) {
    Floats sum[H * CHUNKS];
    for (int h = 0; h < H; h++) {
        for (int c = 0; c < CHUNKS; c++) sum[h * CHUNKS + c] = mul(load(y + h * dim + c * WIDTH), splat(rescale[h]));
    }
    for (uint32_t j = 0; j < count; j++, v += dim, weights += H) {
        Floats value[CHUNKS];
        for (int c = 0; c < CHUNKS; c++) value[c] = load(v + c * WIDTH);
        for (int h = 0; h < H; h++) {
            Floats weight = splat(weights[h]);
            for (int c = 0; c < CHUNKS; c++) sum[h * CHUNKS + c] = fma(weight, value[c], sum[h * CHUNKS + c]);
        }
    }
    for (int h = 0; h < H; h++) {
        for (int c = 0; c < CHUNKS; c++) store(y + h * dim + c * WIDTH, sum[h * CHUNKS + c]);
    }
}

// The same for all columns.
template <int H, typename C>
OB_INLINE void add_values(float *y, const float *rescale, const float *weights, const C *v, uint32_t count, uint32_t dim) {
    enum : uint32_t { MOST = SUMS / 4 };
    for (uint32_t i = 0, n; i < dim; i += n * WIDTH) {
        uint32_t left = (dim - i) / WIDTH;
        n = left == MOST || left >= MOST + 2 ? (uint32_t)MOST : least(left, 2);
        if (n == MOST) add_columns<H, MOST>(y + i, rescale, weights, v + i, count, dim);
        else if (n == 2) add_columns<H, 2>(y + i, rescale, weights, v + i, count, dim);
        else add_columns<H, 1>(y + i, rescale, weights, v + i, count, dim);
    }
}

template <typename C>
struct Attention {
    const AttentionArgs &args;
    const float *q;
    const C *k_cache, *v_cache;
    const uint32_t *slots, *positions;
    float *y;
    uint32_t sharing;  // query heads of a key-value head
    Queries *t;

    // Rows that follow each other in one sequence go through together, as far as there is room.
    void run(uint32_t kv, uint32_t row, uint32_t rows) const {
        uint32_t most = sharing < QUERIES ? QUERIES / sharing : 1;
        while (rows > 0) {
            uint32_t n = 1;
            while (n < least(rows, most) && slots[row + n] == slots[row] && count(row + n) == count(row) + n) n++;
            size_t cache = ((size_t)slots[row] * args.kv_heads + kv) * args.context * args.head_dim;
            for (uint32_t head = 0; head < sharing; head += QUERIES) {
                uint32_t queries = gather(row, n, kv * sharing + head, least(QUERIES, sharing - head));
                attend(queries, k_cache + cache, v_cache + cache);
                finish(queries);
            }
            row += n, rows -= n;
        }
    }

    uint32_t count(uint32_t row) const { return least(positions[row], args.context - 1) + 1; }

    static uint32_t tile(uint32_t queries) { return queries >= 4 ? 4 : queries >= 2 ? 2 : 1; }

    // `heads` heads from `head` on of each of the rows; returns how many queries these are.
    uint32_t gather(uint32_t row, uint32_t rows, uint32_t head, uint32_t heads) const {
        uint32_t dim = args.head_dim, queries = 0, n;
        for (uint32_t r = row; r < row + rows; r++) {
            for (uint32_t h = head; h < head + heads; h++, queries++) {
                t->offsets[queries] = ((size_t)r * args.heads + h) * dim;
                t->counts[queries] = count(r);
                t->top[queries] = -__builtin_inff(), t->total[queries] = 0;
            }
        }
        memset(t->y, 0, sizeof(float) * queries * dim);
        for (uint32_t i = 0; i < queries; i += n) {
            n = tile(queries - i);
            for (uint32_t h = 0; h < n; h++) {
                const float *from = q + t->offsets[i + h];
                float *to = t->q + i * dim + h * WIDTH;
                for (uint32_t c = 0; c < dim; c += WIDTH) store(to + c * n, load(from + c));
            }
        }
        return queries;
    }

    void attend(uint32_t queries, const C *k, const C *v) const {
        uint32_t dim = args.head_dim, end = t->counts[queries - 1], n;
        for (uint32_t first = 0; first < end; first += BLOCK, k += BLOCK * dim, v += BLOCK * dim) {
            // The next block is fetched meanwhile: its keys with the first tile, its values with the second.
            const C *next[2] = {k + BLOCK * dim, v + BLOCK * dim};
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

    void finish(uint32_t queries) const {
        for (uint32_t i = 0; i < queries; i++) {
            const float *from = t->y + i * args.head_dim;
            float *to = y + t->offsets[i];
            Floats total = splat(t->total[i]);
            for (uint32_t c = 0; c < args.head_dim; c += WIDTH) store(to + c, div(load(from + c), total));
        }
    }

    // The block of positions from `first` on, for H queries from `query` on. Those of an earlier row see
    // fewer positions than the others: what they do not see has no weight and is not multiplied.
    template <int H>
    void block(uint32_t query, uint32_t first, const C *k, const C *v, const C *const *next, int fetch) const {
        uint32_t dim = args.head_dim, seen[H];
        for (int h = 0; h < H; h++) seen[h] = first < t->counts[query + h] ? least(t->counts[query + h] - first, BLOCK) : 0;
        uint32_t most = seen[H - 1];
        if (most == 0) return;
        score<H>(query, most, k, next, fetch);
        for (int h = 0; h < H; h++) {
            for (uint32_t j = seen[h]; j < most; j++) t->weights[j * H + h] = -__builtin_inff();
        }
        weigh<H>(query, most);
        float *sums = t->y + query * dim;
        add_values<H>(sums, t->rescale + query, t->weights, v, seen[0], dim);
        for (int h = 1; h < H; h++) {
            for (uint32_t j = seen[0]; j < seen[h]; j++) {
                Floats weight = splat(t->weights[j * H + h]);
                for (uint32_t c = h * dim; c < (h + 1) * dim; c += WIDTH) {
                    store(sums + c, fma(weight, load(v + (size_t)j * dim + c - h * dim), load(sums + c)));
                }
            }
        }
    }

    // Scores of `count` positions, and -inf up to the next multiple of WIDTH.
    template <int H>
    void score(uint32_t query, uint32_t count, const C *k, const C *const *next, int fetch) const {
        enum { KEYS = H == 1 ? 8 : SUMS / H, FEWER = 4 / H };
        uint32_t dim = args.head_dim, j = 0;
        const float *tile = t->q + query * dim;
        for (; j + KEYS <= count; j += KEYS) {
            for (int i = 0; i < fetch; i++) prefetch(next[i] + (size_t)j * dim, KEYS * dim * sizeof(C));
            products<H, KEYS>(tile, k + (size_t)j * dim, KEYS, dim, args.scale, t->weights + j * H);
        }
        for (; j < count; j += FEWER) {
            products<H, FEWER>(tile, k + (size_t)j * dim, count - j, dim, args.scale, t->weights + j * H);
        }
        for (uint32_t i = count * H; i % (WIDTH * H) != 0; i++) t->weights[i] = -__builtin_inff();
    }

    // Scores become exp(score - top); top, total and rescale of the H queries follow.
    template <int H>
    void weigh(uint32_t query, uint32_t count) const {
        const float none = -__builtin_inff();
        uint32_t end = (count + WIDTH - 1) / WIDTH * WIDTH * H;
        Floats most = splat(none), sum[H];
        for (uint32_t i = 0; i < end; i += WIDTH) most = max(load(t->weights + i), most);
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
        for (uint32_t i = 0; i < end; i += WIDTH * H) {
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
