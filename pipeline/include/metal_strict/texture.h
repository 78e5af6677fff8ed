// Textures and samplers, just enough for shaders that use them: their methods take any arguments.
#pragma once

namespace metal {

enum class access { sample, read, write, read_write_ };
enum class coord { normalized, pixel };
enum class filter { nearest, linear, bicubic };
enum class mip_filter { none, nearest, linear };
enum class address { clamp_to_edge, clamp_to_zero, clamp_to_border, repeat, mirrored_repeat };
enum class s_address { clamp_to_edge, clamp_to_zero, clamp_to_border, repeat, mirrored_repeat };
enum class t_address { clamp_to_edge, clamp_to_zero, clamp_to_border, repeat, mirrored_repeat };
enum class r_address { clamp_to_edge, clamp_to_zero, clamp_to_border, repeat, mirrored_repeat };
enum class mag_filter { nearest, linear, bicubic };
enum class min_filter { nearest, linear, bicubic };
enum class compare_func { none, never, less, less_equal, greater, greater_equal, equal, not_equal, always };
enum class border_color { transparent_black, opaque_black, opaque_white };
enum class component { x, y, z, w };
enum memory_coherence { memory_coherence_threadgroup, memory_coherence_device, memory_coherence_system };
enum class reduction { weighted_average, minimum, maximum };

#define STRICT_SAMPLED(name)     \
    struct name {                \
        template <typename... A> \
        constexpr name(A...) {}  \
    };
STRICT_SAMPLED(sampler)
STRICT_SAMPLED(max_anisotropy)
STRICT_SAMPLED(lod_clamp)
STRICT_SAMPLED(lod_bias)
STRICT_SAMPLED(bias)
STRICT_SAMPLED(level)
STRICT_SAMPLED(min_lod_clamp)
STRICT_SAMPLED(gradient2d)
STRICT_SAMPLED(gradient3d)
STRICT_SAMPLED(gradientcube)
#undef STRICT_SAMPLED

template <typename T>
using four = vec<T, 4>;  // without a comma, which would end a macro's argument

// A texture may stand in an argument buffer, too, and is then in constant or device memory.
#define STRICT_METHOD(result, name) \
    template <typename... A>        \
    result name(A...) const;        \
    template <typename... A>        \
    result name(A...) const __constant;
#define STRICT_TEXTURE(name, value, initial)                                                             \
    template <typename T, access a = access::initial, memory_coherence m = memory_coherence_threadgroup> \
    struct name {                                                                                        \
        STRICT_METHOD(value, sample)                                                                     \
        STRICT_METHOD(value, read)                                                                       \
        STRICT_METHOD(void, write)                                                                       \
        STRICT_METHOD(four<T>, gather)                                                                   \
        STRICT_METHOD(T, sample_compare)                                                                 \
        STRICT_METHOD(four<T>, gather_compare)                                                           \
        STRICT_METHOD(float, calculate_clamped_lod)                                                      \
        STRICT_METHOD(float, calculate_unclamped_lod)                                                    \
        STRICT_METHOD(uint, get_width)                                                                   \
        STRICT_METHOD(uint, get_height)                                                                  \
        STRICT_METHOD(uint, get_depth)                                                                   \
        STRICT_METHOD(uint, get_array_size)                                                              \
        STRICT_METHOD(uint, get_num_mip_levels)                                                          \
        STRICT_METHOD(uint, get_num_samples)                                                             \
        STRICT_METHOD(void, fence)                                                                       \
        STRICT_METHOD(four<T>, atomic_load)                                                              \
        STRICT_METHOD(four<T>, atomic_exchange)                                                          \
        STRICT_METHOD(four<T>, atomic_fetch_add)                                                         \
        STRICT_METHOD(four<T>, atomic_fetch_sub)                                                         \
        STRICT_METHOD(four<T>, atomic_fetch_and)                                                         \
        STRICT_METHOD(four<T>, atomic_fetch_or)                                                          \
        STRICT_METHOD(four<T>, atomic_fetch_xor)                                                         \
        STRICT_METHOD(four<T>, atomic_fetch_min)                                                         \
        STRICT_METHOD(four<T>, atomic_fetch_max)                                                         \
        STRICT_METHOD(void, atomic_store)                                                                \
        STRICT_METHOD(void, atomic_min)                                                                  \
        STRICT_METHOD(void, atomic_max)                                                                  \
        STRICT_METHOD(bool, atomic_compare_exchange_weak)                                                \
    };                                                                                                   \
    template <typename T, access a, memory_coherence m>                                                  \
    bool is_null_texture(name<T, a, m>);
STRICT_TEXTURE(texture1d, four<T>, sample)
STRICT_TEXTURE(texture1d_array, four<T>, sample)
STRICT_TEXTURE(texture2d, four<T>, sample)
STRICT_TEXTURE(texture2d_array, four<T>, sample)
STRICT_TEXTURE(texture2d_ms, four<T>, read)
STRICT_TEXTURE(texture2d_ms_array, four<T>, read)
STRICT_TEXTURE(texture3d, four<T>, sample)
STRICT_TEXTURE(texturecube, four<T>, sample)
STRICT_TEXTURE(texturecube_array, four<T>, sample)
STRICT_TEXTURE(texture_buffer, four<T>, read)
STRICT_TEXTURE(depth2d, T, sample)
STRICT_TEXTURE(depth2d_array, T, sample)
STRICT_TEXTURE(depth2d_ms, T, read)
STRICT_TEXTURE(depth2d_ms_array, T, read)
STRICT_TEXTURE(depthcube, T, sample)
STRICT_TEXTURE(depthcube_array, T, sample)
#undef STRICT_TEXTURE
#undef STRICT_METHOD

// What only fragment functions call.
METAL_FUNC void discard_fragment() {}
template <typename T>
METAL_FUNC T dfdx(T) {
    return T{};
}
template <typename T>
METAL_FUNC T dfdy(T) {
    return T{};
}
template <typename T>
METAL_FUNC T fwidth(T) {
    return T{};
}

}  // namespace metal
