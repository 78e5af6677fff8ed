// This header defines the argument structs and the sizes that shaders and host share. They are defined nowhere else.
// The host packs a struct member by member, by reflection, and reads the sizes from this header.
#ifndef OB_ARGS_H
#define OB_ARGS_H

#ifndef __METAL_VERSION__
#include <assert.h>
#include <stdint.h>
#endif

// A threadgroup of a projection computes a tile: OB_LINEAR_OUTPUTS outputs for OB_LINEAR_ROWS rows. In an expert
// projection the tile is for one (row, expert) pair. A simdgroup computes OB_LINEAR_BLOCK outputs at a time.
#define OB_LINEAR_OUTPUTS 16
#define OB_LINEAR_ROWS 4
#define OB_LINEAR_BLOCK 2
// Threads of a GPU's threadgroup for a tile of a projection, and for a tile of the experts' sums.
#define OB_LINEAR_THREADS 256
#define OB_DOWN_THREADS 512
// The same for weights in MLX's affine format.
#define OB_AFFINE_THREADS 128
#define OB_AFFINE_DOWN_THREADS 768

// Kernels that decode one row at a time (rows.metal). A simdgroup takes a chunk of the row's columns, and so many tiles of
// outputs with it. Threads and tiles: of one matrix (one tile before a norm), of three, of gate and up, of the experts' down.
#define OB_ROW_THREADS 512
#define OB_ROW_TILES 2
#define OB_ROW3_THREADS 256
#define OB_ROW3_TILES 2
#define OB_ROW_GATE_UP_THREADS 512
#define OB_ROW_GATE_UP_TILES 3
#define OB_ROW_DOWN_THREADS 768
#define OB_ROW_CHUNKS 32  // of a row, at most
#define OB_ROW_BUSY 132   // threadgroups that keep a GPU busy
#define OB_ROW_SHARES 64  // of the experts' products, at most, and experts of a row
#define OB_ROW_TOP_K 16
#define OB_ROW_EXPERTS 128  // that a row chooses from, at most

// Threads of a GPU's threadgroup that stages activations for tensor cores, eight each.
#define OB_STAGE_THREADS 256

// Threads of a GPU's threadgroup that norms a row.
#define OB_NORM_THREADS 512

// One threadgroup of heads_to_cache works on OB_ROPE_HEADS heads. A norm covers the numbers of one head
// (OB_NORM_HEAD) or those of all heads (OB_NORM_ALL).
#define OB_ROPE_HEADS 4
#define OB_ROPE_THREADS (32 * OB_ROPE_HEADS)
#define OB_NORM_HEAD 1
#define OB_NORM_ALL 2

// A KV cache is made of blocks of so many positions. A block table says which blocks a slot has.
#define OB_CACHE_BLOCK 64
// In an 8-bit KV cache, OB_CACHE_GROUP numbers share one scale.
#define OB_CACHE_GROUP 32

// Attention works on OB_ATTENTION_BLOCK key positions at a time, and on at most OB_ATTENTION_HEADS query heads that
// share a key-value head.
#define OB_ATTENTION_BLOCK 256
#define OB_ATTENTION_HEADS 16
// A GPU's threadgroup of attention has so many threads, and works on at most OB_ATTENTION_TILE query heads at a time,
// with at most so many numbers per head. Positions come in at most OB_ATTENTION_PARTS parts, each of at least
// OB_ATTENTION_PART, so that several threadgroups can share a row. Another size of threadgroup merges them.
#define OB_ATTENTION_THREADS 256
#define OB_ATTENTION_TILE 4
#define OB_ATTENTION_HEAD_DIM 768
#define OB_ATTENTION_V_DIM 512
#define OB_ATTENTION_PART 128
#define OB_ATTENTION_PARTS 16
#define OB_ATTENTION_PART_END 4  // numbers that follow the sums of a part
#define OB_ATTENTION_MERGE_THREADS 128
// Where tensor cores compute attention, a threadgroup has so many simdgroups, works on at most so many query heads, and
// parts are so long. Heads that are made on the way have two simdgroups more.
#define OB_TENSOR_ATTENTION_GROUPS 8
#define OB_TENSOR_ATTENTION_HEADS 8
#define OB_TENSOR_ATTENTION_PART 512

// Layers with a recurrent state: a threadgroup of causal_conv works on OB_CONV_CHANNELS channels, one of gated_delta and
// of ssm_scan on OB_DELTA_VALUES value numbers of a head, one of gated_norm and of gate_heads on OB_GATED_HEADS heads.
#define OB_CONV_CHANNELS 256
#define OB_CONV_THREADS 64
#define OB_DELTA_VALUES 32
#define OB_DELTA_THREADS 128
#define OB_GATED_HEADS 4
#define OB_GATED_THREADS (32 * OB_GATED_HEADS)

// The largest top_k that the routing accepts.
#define OB_MAX_TOP_K 64
// Threads of a GPU's threadgroup that routes a row: one simdgroup.
#define OB_ROUTING_LANES 32

// A threadgroup of the sampler works on one part of a row's logits. A part is made of blocks; a block whose largest
// logit is too small is skipped. A selection reads a list of at most OB_SAMPLE_LIST logits where that is enough.
#define OB_SAMPLE_PART 8192
#define OB_SAMPLE_BLOCK 64
#define OB_SAMPLE_LIST 8192
#define OB_MAX_LOGPROBS 64

// The stored type of a vector's elements, for kernels that read every type.
#define OB_F32 1
#define OB_F16 2
#define OB_BF16 3
// The stored type of a bias. OB_NOT_STORED means that there is none.
#define OB_NOT_STORED 0
#define OB_STORED_F32 1
#define OB_STORED_F16 2
#define OB_STORED_BF16 3

// The activation joins gate and up: silu(gate) · up, gelu(gate) · up by the tanh formula, the form of gpt-oss, or
// relu(gate) · up, which is relu² of an MLP without a gate: its gate and up are one matrix.
// OB_GATE_ALONE is the gate itself: up counts for nothing, and `experts_activate` joins the two later.
#define OB_SILU 0
#define OB_GELU_TANH 1
#define OB_SWIGLU_OAI 2  // min(gate, limit) · σ(alpha · gate) · (up within ± limit, plus 1)
#define OB_GATE_ALONE 3
#define OB_RELU 4
#define OB_SWIGLU_ALPHA 1.702f
#define OB_SWIGLU_LIMIT 7.0f

// This number marks an expert id or a token that does not exist.
#define OB_NONE 0xFFFFFFFFu

// A normed element is multiplied by weight_offset + weight, and the result by
// scalar[row · scalar_row + element · scalar_element].
struct NormArgs {
    uint32_t rows, dim;
    float eps;
    float weight_offset;  // 0; 1 for Gemma, which stores weight - 1; 1 where there is no weight
    uint32_t has_weight;
    uint32_t write_sum;
    uint32_t scalar_row, scalar_element;
};

struct StatusArgs {
    uint32_t rows;
};

struct EmbedArgs {
    uint32_t rows, dim, vocab;
    uint32_t group_size;  // weights of a row that share a scale
    float scale;          // multiplies every element
};

// y[rows, outputs] = x[rows, inputs] · wᵀ, followed by the epilogue (epilogue.h).
struct LinearArgs {
    uint32_t rows, inputs, outputs;
    uint32_t group_size;
    uint32_t bias;               // its stored type
    uint32_t has_add, has_gate;  // 1: `add` is added to the result; 1: each row is multiplied by σ(gate[row])
    float scale;
    float softcap;  // 0: none
};

struct StageArgs {
    uint32_t rows, columns;
    uint32_t depth;  // rows of activations of each row
};

// Three matrices multiply one input. The epilogue adds a bias at most.
struct Linear3Args {
    uint32_t rows, inputs;
    uint32_t outputs0, outputs1, outputs2;
    uint32_t group_size;
    uint32_t bias0, bias1, bias2;
};

struct RopeTableArgs {
    uint32_t rows, half_dim;
    float scale;  // multiplies cos and sin
};

struct HeadArgs {
    uint32_t rows, heads, kv_heads, head_dim, v_dim;
    uint32_t q_head;                 // elements of q from one head to the next; more than head_dim: gates lie between
    uint32_t slots, width;           // slots of the block table, and entries that each has
    uint32_t blocks;                 // blocks that the caches have
    uint32_t ring;                   // 1: entries are used round and round
    uint32_t step;                   // a failing row reports this number
    uint32_t half_dim, interleaved;  // pairs per head that turn; 1: neighbours are pairs
    uint32_t norm;                   // 0, OB_NORM_HEAD or OB_NORM_ALL
    uint32_t norm_values;            // 1: value heads are normed, without weights
    float eps, weight_offset;
    float clip;  // above 0: numbers are limited to ±clip
};

#define OB_CHUNKED 0x80000000u

// What attention takes, alone or with the heads of its row.
#define OB_ATTENTION_MEMBERS                                                                                     \
    uint32_t rows, heads, kv_heads, head_dim, v_dim;                                                             \
    uint32_t v_row;        /* numbers in a row of the values' cache, of which the first v_dim are values */      \
    uint32_t slots, width; /* slots of the block table, and entries that each has */                             \
    uint32_t blocks;       /* blocks that the caches have */                                                     \
    /* Positions that a row sees, where entries are used round and round; 0: all. With the bit OB_CHUNKED the */ \
    /* other bits are the length of chunks: a row sees its chunk from the beginning on. */                       \
    uint32_t window;                                                                                             \
    uint32_t sinks; /* 0: none; OB_F32, OB_F16 or OB_BF16 */                                                     \
    uint32_t step;  /* a failing row reports this number */                                                      \
    uint32_t tiles; /* threadgroups that share the query heads of a key-value head */                            \
    uint32_t parts; /* most parts that positions come in */                                                      \
    uint32_t part;  /* positions of a part, where so few parts suffice */                                        \
    uint32_t split; /* 1: each part has a threadgroup of its own */                                              \
    float scale;                                                                                                 \
    float softcap /* above 0: a score s becomes softcap · tanh(s / softcap) */

struct AttentionArgs {
    OB_ATTENTION_MEMBERS;
};
// The heads of a row as HeadArgs has them.
struct HeadAttentionArgs {
    OB_ATTENTION_MEMBERS;
    uint32_t q_head, half_dim, interleaved;
    uint32_t norm;  // 0 or OB_NORM_HEAD
    float eps, weight_offset, clip;
};

// Latent attention: a query head has `nope` numbers that do not turn and 2 · half_dim that do. A row of the cache has
// `rank` numbers that do not turn and 2 · half_dim that do.
struct LatentArgs {
    uint32_t rows, heads, nope, rank;
    uint32_t half_dim, interleaved;
    uint32_t slots, width;  // slots of the block table, and entries that each has
    uint32_t blocks;        // blocks that the cache has
    uint32_t step;          // a failing row reports this number
    float eps;
};

// y[row, head, o] = w[head, o, :] · x[row, head, :], or transposed
// y[row, head, c] = Σ_i x[row, head, i] · w[head, i, c].
struct HeadLinearArgs {
    uint32_t rows, heads;
    uint32_t inputs, outputs;       // per head
    uint32_t x_head, y_head;        // elements from one head of a row to the next
    uint32_t head_rows, first_row;  // rows of the matrix from one head to the next, and before a head's first
    uint32_t columns;               // columns of the matrix
    uint32_t transposed;
    uint32_t group_size;
};

struct LinkArgs {
    uint32_t rows;
    uint32_t slots;  // that the states have
    uint32_t step;   // a failing row reports this number
};

// Channels come in up to three parts, such as queries, keys and values. Part p begins with channel begin_p; its heads
// have head_p channels. Channel c of the part is element first_p + c / head_p · group + c % head_p of a row of x.
struct ConvArgs {
    uint32_t rows, channels;
    uint32_t width;  // taps: the last inputs that an output sees, its own among them
    uint32_t x_row;  // elements of x from one row to the next
    uint32_t begin1, begin2;
    uint32_t head0, head1, head2;
    uint32_t first0, first1, first2;
    uint32_t group;
    uint32_t whole;  // 1: sixteen neighbouring channels are neighbours in x, too
    uint32_t has_bias;
    uint32_t silu;  // 1: outputs go through silu
};

// Key head h / (value_heads / key_heads) belongs to value head h, or with the bit OB_TILED in key_heads, which is no part
// of the number, key head h % key_heads. Number h of a row of β, or of α, is element
// first + h / group · step + h % group.
#define OB_TILED 0x80000000u

struct DeltaArgs {
    uint32_t rows, key_heads, value_heads, key_dim, value_dim;
    uint32_t group;
    uint32_t beta_row, beta_first, beta_step;
    uint32_t alpha_row, alpha_first, alpha_step;
    float eps;    // of the norm of queries and keys
    float scale;  // of queries
};

// B and C of group h / (heads / groups) belong to head h. dt of head h is element dt_first + h of a row, and is limited to
// least … most.
struct ScanArgs {
    uint32_t rows, heads, groups, head_dim, state_dim;
    uint32_t dt_row, dt_first;
    float least, most;
};

// Number d of head h of the gates is element first + h / group · step + h % group · dim + d of a row of the gates.
struct NormGateArgs {
    uint32_t rows, heads, dim;
    uint32_t gate_row, gate_first, gate_group, gate_step;
    uint32_t weight_step;   // elements of the weight from one head to the next; 0: one for all heads
    uint32_t gates_inputs;  // 1: inputs are gated, and then normed
    float eps;
};

// Number d of head h is element first + h · step + d of a row, of x and of the gates.
struct GateArgs {
    uint32_t rows, heads, dim;
    uint32_t x_row, x_first, x_step;
    uint32_t gate_row, gate_first, gate_step;
    uint32_t sigmoid;  // 1: the gate is σ(number); 0: the number itself
};

struct OrderArgs {
    uint32_t rows, columns;
    uint32_t tile;  // columns of a threadgroup
};

struct RouteArgs {
    uint32_t rows, experts, top_k;
    uint32_t renormalise;  // 1: the weights of the top K add up to 1
    uint32_t has_scale, has_counts;
    uint32_t step;  // a failing row reports this number
    float scale;    // multiplies all weights; of moe_routing_mixer it is a distance
};

// Routing by scores, with experts in groups.
struct ScoreArgs {
    uint32_t rows, experts, top_k;
    uint32_t sigmoid;     // 1: an expert's score is the sigmoid of its logit; 0: softmax over all experts
    uint32_t correction;  // stored type of the correction, which is added to scores only while experts are chosen
    uint32_t groups, top_groups;
    uint32_t top_two;  // 1: a group's score is the sum of its two largest scores; 0: it is its largest
    uint32_t renormalise;
    uint32_t has_counts;
    uint32_t step;  // a failing row reports this number
    float scale;    // multiplies all weights
};

struct ExpertArgs {
    uint32_t rows, experts, top_k;
    uint32_t inputs, outputs;
    uint32_t group_size;
    uint32_t step;                   // a failing row reports this number
    uint32_t dense;                  // 1: there is one expert and every row uses it; ids and pairs are not read
    uint32_t activation;             // OB_SILU, OB_GELU_TANH, OB_SWIGLU_OAI, OB_GATE_ALONE, OB_RELU
    uint32_t bias;                   // the biases' stored type
    uint32_t expert_rows, row_step;  // stored rows from one expert to the next, and from one output to the next
};

// The kernels of rows.metal. A chunk is 128 bytes of a row of weights.
struct RowArgs {
    uint32_t rows, inputs, chunks;
    uint32_t outputs0, outputs1, outputs2;
    uint32_t bias0, bias1, bias2;  // their stored types
    uint32_t width, clears;        // threadgroups across; 1: the count of row_experts is cleared
    float eps, weight_offset;      // of the norm
};
struct RowExpertArgs {
    uint32_t rows, inputs, chunks;
    uint32_t outputs, bias;
    uint32_t experts, top_k;
    uint32_t expert_rows, row_step, activation;
    float eps, weight_offset;
};
// Of row_experts: those of gate and up, and of down.
struct RowMixtureArgs {
    uint32_t rows, inputs, chunks;
    uint32_t outputs, bias;
    uint32_t down_outputs, down_chunks, down_bias;
    uint32_t experts, top_k;
    uint32_t expert_rows, row_step, activation;
    float eps, weight_offset;
    uint32_t renormalise, has_counts;  // of the routing
    uint32_t step;
    float scale;
};
struct RowDownArgs {
    uint32_t rows, inputs, chunks;
    uint32_t outputs, bias;
    uint32_t experts, top_k;
    uint32_t renormalise, has_counts;  // of the routing
    uint32_t step;
    float scale;
};

// All kernels of the sampler share this struct. Flags are 0 or 1.
struct SampleArgs {
    uint32_t rows, vocab;
    uint32_t shared;    // 1: every row draws from the logits of row 0
    uint32_t adjusted;  // 1: rows with penalties have logits of their own
    uint32_t filtered;  // 1: rows may have a limit
    uint32_t tempered;  // whether to sum the weights at the row's temperature: 1 if it has top_p, 2 always
    uint32_t logprobs;  // number of largest log-probabilities that are wanted
    uint32_t slots;     // of the history
    uint32_t context;   // tokens that a slot of the history holds
    uint32_t biases;    // largest number of logit biases per row
    uint32_t step;      // a failing row reports this number
    uint32_t advance;   // 1: write the token and the next position for the next run
    uint32_t finite;    // 1: a row fails whose largest logit is +inf, which no model that works gives
    uint32_t given;     // 1: rows may have a token that is given, whose log-probability alone is wanted
};

// The filter settings of one row. 0, 1 and 0 are off.
struct SampleFilter {
    uint32_t top_k;
    float top_p, min_p;
};

struct SamplePenalty {
    float repetition, presence, frequency;  // 1, 0 and 0 are off
    uint32_t window;                        // last tokens that the repetition penalty looks at; 0: all
    uint32_t start;                         // position of the first generated token
    uint32_t biases;
};

// Statistics of one part of a row: the largest logit, Σ exp(x - top), Σ exp((x - top) / temperature).
struct SampleStats {
    float top, sum, mass;
};

struct SampleDraw {
    float score;
    uint32_t id;
};

// A row may draw logits above `value`, and logits equal to it whose index is below `end`.
struct SampleLimit {
    float value;
    uint32_t end;
};

// One row returns these 8 bytes. For a row that failed, `token` is OB_NONE and `logprob` holds the bits of the number
// of the step that failed.
struct SampleResult {
    uint32_t token;
    float logprob;
};

static_assert(sizeof(struct NormArgs) == 32, "NormArgs");
static_assert(sizeof(struct StatusArgs) == 4, "StatusArgs");
static_assert(sizeof(struct EmbedArgs) == 20, "EmbedArgs");
static_assert(sizeof(struct LinearArgs) == 36, "LinearArgs");
static_assert(sizeof(struct StageArgs) == 12, "StageArgs");
static_assert(sizeof(struct Linear3Args) == 36, "Linear3Args");
static_assert(sizeof(struct RopeTableArgs) == 12, "RopeTableArgs");
static_assert(sizeof(struct HeadArgs) == 72, "HeadArgs");
static_assert(sizeof(struct AttentionArgs) == 72, "AttentionArgs");
static_assert(sizeof(struct HeadAttentionArgs) == 100, "HeadAttentionArgs");
static_assert(sizeof(struct LatentArgs) == 44, "LatentArgs");
static_assert(sizeof(struct HeadLinearArgs) == 44, "HeadLinearArgs");
static_assert(sizeof(struct LinkArgs) == 12, "LinkArgs");
static_assert(sizeof(struct ConvArgs) == 64, "ConvArgs");
static_assert(sizeof(struct DeltaArgs) == 56, "DeltaArgs");
static_assert(sizeof(struct ScanArgs) == 36, "ScanArgs");
static_assert(sizeof(struct NormGateArgs) == 40, "NormGateArgs");
static_assert(sizeof(struct GateArgs) == 40, "GateArgs");
static_assert(sizeof(struct OrderArgs) == 12, "OrderArgs");
static_assert(sizeof(struct RouteArgs) == 32, "RouteArgs");
static_assert(sizeof(struct ScoreArgs) == 48, "ScoreArgs");
static_assert(sizeof(struct ExpertArgs) == 48, "ExpertArgs");
static_assert(sizeof(struct RowArgs) == 52, "RowArgs");
static_assert(sizeof(struct RowExpertArgs) == 48, "RowExpertArgs");
static_assert(sizeof(struct RowMixtureArgs) == 76, "RowMixtureArgs");
static_assert(sizeof(struct RowDownArgs) == 44, "RowDownArgs");
static_assert(sizeof(struct SampleArgs) == 56, "SampleArgs");
static_assert(sizeof(struct SampleFilter) == 12, "SampleFilter");
static_assert(sizeof(struct SamplePenalty) == 24, "SamplePenalty");
static_assert(sizeof(struct SampleStats) == 12, "SampleStats");
static_assert(sizeof(struct SampleDraw) == 8, "SampleDraw");
static_assert(sizeof(struct SampleLimit) == 8, "SampleLimit");
static_assert(sizeof(struct SampleResult) == 8, "SampleResult");

#endif
