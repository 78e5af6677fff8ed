// Textures and samplers: just enough to parse a shader that names them.
#pragma once

namespace metal {

enum class access { sample, read, write, read_write_ };
enum class coord { normalized, pixel };
enum class filter { nearest, linear };
enum class address { clamp_to_zero, clamp_to_edge, repeat, mirrored_repeat };
struct sampler {
    template <typename... A>
    constexpr sampler(A...) {}
};
#define STRICT_TEXTURE(name)                         \
    template <typename T, access a = access::sample> \
    struct name {                                    \
        template <typename... A>                     \
        vec<T, 4> sample(A...) const;                \
        template <typename... A>                     \
        vec<T, 4> read(A...) const;                  \
        template <typename... A>                     \
        void write(vec<T, 4>, A...) const;           \
        uint get_width(uint = 0) const;              \
        uint get_height(uint = 0) const;             \
        uint get_depth(uint = 0) const;              \
    };
STRICT_TEXTURE(texture1d)
STRICT_TEXTURE(texture2d)
STRICT_TEXTURE(texture3d)
STRICT_TEXTURE(texture2d_array)
STRICT_TEXTURE(texture_buffer)
#undef STRICT_TEXTURE

}  // namespace metal
