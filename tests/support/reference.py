"""The oracle: every operation in NumPy float64, written from its formula and not from the shaders."""

import numpy as np

NONE = 0xFFFFFFFF


def bf16_bits(values):
    """float32 → bfloat16 bits, round to nearest even."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(bits):
    return (np.asarray(bits).astype(np.uint32) << 16).view(np.float32)


def dequantize(words, scales, biases, bits, group_size):
    """MLX affine: element i of a row is bits i · bits… of its words; w = q · scale + bias by group."""
    flags = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=-1, bitorder="little")
    q = flags.reshape(*words.shape[:-1], -1, bits) @ 2.0 ** np.arange(bits)
    scale = np.repeat(scales.astype(np.float64), group_size, axis=-1)
    bias = np.repeat(biases.astype(np.float64), group_size, axis=-1)
    return q * scale + bias


def rms_norm(x, weight=None, eps=1e-6):
    x = np.asarray(x, np.float64)
    y = x / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
    return y if weight is None else y * np.asarray(weight, np.float64)


def softmax(x, axis=-1):
    x = np.asarray(x, np.float64)
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def log_softmax(x, axis=-1):
    x = np.asarray(x, np.float64)
    shifted = x - x.max(axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))


def softmax_topk(logits, top_k, norm_topk_prob=True, scale=None):
    """Ids by descending probability, the lower index first on a tie; weights of the softmax, scaled
    by expert at the end."""
    logits = np.asarray(logits)
    ids = np.argsort(-logits.astype(np.float64), axis=-1, kind="stable")[:, :top_k]
    weights = np.take_along_axis(softmax(logits), ids, -1)
    if norm_topk_prob:
        weights = weights / weights.sum(-1, keepdims=True)
    if scale is not None:
        weights = weights * np.asarray(scale, np.float64)[ids]
    return ids.astype(np.uint32), weights


def scored_topk(
    logits,
    top_k,
    norm_topk_prob=True,
    scoring="sigmoid",
    correction=None,
    groups=1,
    top_groups=1,
    group_score="max",
    scale=1.0,
):
    """DeepSeek's gates: ids by descending corrected score among the best groups, the lower index first on a tie;
    weights of the scores without correction. Also how far each decision was from another, relative to the scores."""
    logits = np.asarray(logits, np.float64)
    scores = sigmoid(logits) if scoring == "sigmoid" else softmax(logits)
    choice = scores + (0 if correction is None else np.asarray(correction, np.float64))
    rows, experts = logits.shape
    by_group = np.sort(choice.reshape(rows, groups, -1), -1)
    of_groups = by_group[..., -1] if group_score == "max" else by_group[..., -2:].sum(-1)
    order = np.argsort(-of_groups, -1, kind="stable")
    allowed = np.zeros((rows, groups), bool)
    np.put_along_axis(allowed, order[:, :top_groups], True, -1)
    masked = np.where(np.repeat(allowed, experts // groups, -1), choice, -np.inf)
    ids = np.argsort(-masked, -1, kind="stable")[:, :top_k]
    weights = np.take_along_axis(scores, ids, -1)
    if norm_topk_prob:
        weights = weights / (weights.sum(-1, keepdims=True) + 1e-20)
    margins = [
        np.abs(np.diff(np.sort(of_groups, -1), axis=-1)),
        np.abs(np.diff(np.sort(masked, -1)[:, -top_k - 1 :], axis=-1)),
    ]
    margin = min(np.where(np.isfinite(part) & (part > 0), part, np.inf).min(initial=np.inf) for part in margins)
    return ids.astype(np.uint32), weights * scale, margin


def silu(x):
    return x / (1 + np.exp(-x))


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def activate(gate, up, activation="silu"):
    """What gate and up become: silu(gate) · up; gelu(gate) · up (Hendrycks & Gimpel 2016, the tanh formula);
    relu(gate) · up; gpt-oss's, with limits of 7."""
    if activation == "silu":
        return silu(gate) * up
    if activation == "relu":
        return np.where(gate < 0, 0.0, gate * up)
    if activation == "gelu_tanh":
        return 0.5 * gate * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3))) * up
    gate, up = np.minimum(gate, 7), np.clip(up, -7, 7)
    return gate * sigmoid(1.702 * gate) * (up + 1)


def experts(h, ids, weights, gate, up, down, activation="silu", biases=None):
    """Σ_k weight · (down(activate(gate · h, up · h))), row by row, each product with its bias if there is one;
    NONE adds nothing."""
    h = np.asarray(h, np.float64)
    gate_bias, up_bias, down_bias = biases or (np.zeros(w.shape[:2]) for w in (gate, up, down))
    out = np.zeros((h.shape[0], down.shape[1]))
    for row in range(h.shape[0]):
        for expert, weight in zip(ids[row], weights[row]):
            if expert != NONE:
                inner = activate(
                    gate[expert] @ h[row] + gate_bias[expert], up[expert] @ h[row] + up_bias[expert], activation
                )
                out[row] += weight * (down[expert] @ inner + down_bias[expert])
    return out


def rope(x, positions, inv_freq, interleaved=False):
    """x [rows, heads, dim] turned by position: of the first 2n numbers, n = len(inv_freq), i goes with i + n
    (GPT-NeoX order), or interleaved 2i with 2i + 1."""
    x = np.asarray(x, np.float64)
    half = len(inv_freq)
    first, second = (
        (slice(0, 2 * half, 2), slice(1, 2 * half, 2)) if interleaved else (slice(0, half), slice(half, 2 * half))
    )
    angle = (np.asarray(positions, np.float64)[:, None] * np.asarray(inv_freq, np.float64))[:, None, :]
    y = x.copy()
    y[..., first] = x[..., first] * np.cos(angle) - x[..., second] * np.sin(angle)
    y[..., second] = x[..., second] * np.cos(angle) + x[..., first] * np.sin(angle)
    return y


def attention(q, keys, values, slots, positions, scale, window=0, sinks=None, softcap=0.0):
    """q [rows, heads, dim]; caches [slots, kv_heads, context, dim]; row r sees 0 … positions[r], or the last `window`
    of these; a head's sink is a score more, without a value."""
    rows, heads, dim = q.shape
    group = heads // keys.shape[1]
    out = np.zeros((rows, heads, values.shape[-1]))
    for row in range(rows):
        end = positions[row] + 1
        first = max(end - window, 0) if window else 0
        for head in range(heads):
            k = keys[slots[row], head // group, first:end].astype(np.float64)
            v = values[slots[row], head // group, first:end].astype(np.float64)
            scores = k @ q[row, head].astype(np.float64) * scale
            if softcap:
                scores = softcap * np.tanh(scores / softcap)
            if sinks is not None:
                scores, v = np.append(scores, sinks[head]), np.vstack([v, 0 * v[:1]])
            out[row, head] = softmax(scores) @ v
    return out.reshape(rows, -1)


def q8_rows(values, group=32):
    """Rows of a q8 cache as bytes (shaders/cache.h): the smallest half that is no less than a group's largest / 127,
    then the nearest integers."""
    values = np.asarray(values, np.float32)
    dim = values.shape[-1]
    groups = -(-dim // group)
    padded = np.zeros((*values.shape[:-1], groups * group), np.float32)
    padded[..., :dim] = values
    parts = padded.reshape(*values.shape[:-1], groups, group)
    exact = np.minimum(np.abs(parts).max(-1) / np.float32(127), np.float32(65504))
    scale = exact.astype(np.float16)
    scale = (scale.view(np.uint16) + (scale.astype(np.float32) < exact)).astype(np.uint16).view(np.float16)
    size = scale.astype(np.float64)[..., None]
    integers = np.clip(np.rint(np.divide(parts, size, out=np.zeros(parts.shape), where=size > 0)), -127, 127).astype(
        np.int8
    )
    rows = np.zeros((*values.shape[:-1], (2 * groups + dim + 3) // 4 * 4), np.uint8)
    rows[..., : 2 * groups] = scale.view(np.uint8)
    rows[..., 2 * groups : 2 * groups + dim] = integers.reshape(*values.shape[:-1], -1)[..., :dim].view(np.uint8)
    return rows


def q8_values(rows, dim, group=32):
    """(values f32, scale of each) of a q8 cache's rows of `dim` numbers."""
    groups = -(-dim // group)
    scales = np.repeat(np.ascontiguousarray(rows[..., : 2 * groups]).view(np.float16).astype(np.float32), group, -1)[
        ..., :dim
    ]
    return scales * np.ascontiguousarray(rows[..., 2 * groups : 2 * groups + dim]).view(np.int8), scales


_MASK = np.uint64(0xFFFFFFFF)


def philox(counter, key):
    """Philox 4×32-10 (Salmon et al. 2011); counter [..., 4], key [2], all uint32."""
    c = [np.asarray(counter)[..., i].astype(np.uint64) for i in range(4)]
    k0, k1 = np.uint64(key[0]), np.uint64(key[1])
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ k0, p1 & _MASK, (p0 >> np.uint64(32)) ^ c[3] ^ k1, p0 & _MASK]
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & _MASK, (k1 + np.uint64(0xBB67AE85)) & _MASK
    return np.stack(c, -1).astype(np.uint32)


def gumbel_noise(vocab, position, seed):
    """-log(-log((bits + ½) / 2³²)) for each vocabulary index, bits as the sampler counts them."""
    blocks = np.arange((vocab + 3) // 4, dtype=np.uint32)
    counter = np.stack([blocks, np.full_like(blocks, position), 0 * blocks, 0 * blocks], -1)
    bits = philox(counter, seed).reshape(-1)[:vocab].astype(np.float64)
    return -np.log(-np.log((bits + 0.5) / 2**32))


def kept(logits, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0):
    """(indices that may be drawn, their probabilities): a full sort, then top-k, top-p of what that
    leaves, min-p; by descending logits and the lower index first."""
    x = np.asarray(logits, np.float64)
    order = np.lexsort((np.arange(len(x)), -np.where(np.isnan(x), -np.inf, x)))
    order = order[x[order] > -np.inf]  # neither NaN
    if top_k:
        order = order[:top_k]
    top = x[order[0]]
    scaled = np.where(x[order] == top, 0.0, (x[order] - top) / temperature)
    weights = np.exp(scaled)
    before = np.cumsum(weights) - weights
    inside = (before < top_p * weights.sum()) & ((scaled >= np.log(min_p)) if min_p else True)
    return order[inside], weights[inside] / weights[inside].sum()


def inverse_cdf(logits, temperature, uniform):
    """(token, how far `uniform` is from the nearest step of the CDF): the first with more than it up to it."""
    cdf = np.cumsum(softmax(np.asarray(logits, np.float64) / temperature))
    cdf[-1] = max(cdf[-1], 1.0)
    return int((cdf > uniform).argmax()), np.abs(cdf - uniform).min()


def penalised(logits, prompt, text, bias=None, repetition=1.0, window=0, presence=0.0, frequency=0.0):
    """Logits after bias, repetition over the last `window` of prompt and text (0: all), presence and
    frequency over the text."""
    x = np.asarray(logits, np.float64).copy()
    for token, value in (bias or {}).items():
        x[token] += value
    everything = [*prompt, *text]
    for token in set(everything[-window:] if window else everything):
        x[token] = x[token] / repetition if x[token] > 0 else x[token] * repetition
    for token in set(text):
        x[token] -= presence + frequency * text.count(token)
    return x


def chi_square_z(counts, probabilities, least=10):
    """How many standard deviations a chi-square statistic lies above its mean (Wilson & Hilferty 1931);
    p > 0.001 is z < 3.09. Bins are merged, the rarest first, until each expects `least`."""
    counts, expected = np.asarray(counts), np.asarray(probabilities, np.float64) * np.sum(counts)
    order = np.argsort(expected, kind="stable")
    group = np.floor(np.cumsum(expected[order]) / least).astype(int)
    merged, seen = np.bincount(group, expected[order]), np.bincount(group, counts[order])
    full = merged > least / 2
    freedom = full.sum() - 1
    statistic = ((seen - merged)[full] ** 2 / merged[full]).sum()
    return ((statistic / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / np.sqrt(2 / (9 * freedom))


def causal_conv(x, taps, bias=None, act=None):
    """x [T, C] of one sequence, taps [width, C]: y[t] = act(bias + Σ_d taps[width - 1 - d] · x[t - d])."""
    width = len(taps)
    padded = np.concatenate([np.zeros((width - 1, x.shape[1])), x.astype(np.float64)])
    y = sum(taps[i] * padded[i : i + len(x)] for i in range(width)) + (0 if bias is None else bias)
    return (act or silu)(y)


def ssm_scan(x, b, c, t, slope, skip):
    """x [T, heads, head_dim], b, c [T, heads, state_dim], t [T, heads] of one sequence: (y as x, the last state [heads,
    head_dim, state_dim])."""
    state = np.zeros((x.shape[1], x.shape[2], b.shape[2]))
    y = np.empty(x.shape)
    for i in range(len(x)):
        state = np.exp(slope * t[i])[:, None, None] * state
        state = state + t[i][:, None, None] * x[i][:, :, None] * b[i][:, None, :]
        y[i] = np.einsum("hpn,hn->hp", state, c[i]) + skip[:, None] * x[i]
    return y, state


def gated_delta(q, k, v, beta, decay, eps=1e-6):
    """q, k [T, heads, key_dim], v [T, heads, value_dim], beta, decay [T, heads] of one sequence: (y as v, the states
    [heads, value_dim, key_dim] behind each position)."""
    q, k = (x / np.sqrt((x * x).sum(-1, keepdims=True) + eps) for x in (q.astype(np.float64), k.astype(np.float64)))
    state = np.zeros((v.shape[1], v.shape[2], k.shape[2]))
    y, states = np.empty(v.shape), []
    for t in range(len(q)):
        state = decay[t][:, None, None] * state
        delta = beta[t][:, None] * (v[t] - np.einsum("hvk,hk->hv", state, k[t]))
        state = state + delta[:, :, None] * k[t][:, None, :]
        y[t] = np.einsum("hvk,hk->hv", state, q[t]) * q.shape[2] ** -0.5
        states.append(state)
    return y, states
