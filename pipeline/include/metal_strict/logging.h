// Logging from a kernel.
#pragma once

namespace metal {

struct os_log {
    constexpr os_log(constant char *, constant char *) {}
    constexpr os_log(constant char *, constant char *) __constant {}
#define STRICT_LOG(name)                              \
    template <typename... A>                          \
    void name(constant char *, A...) const __private; \
    template <typename... A>                          \
    void name(constant char *, A...) const __constant;
    STRICT_LOG(log)
    STRICT_LOG(log_debug)
    STRICT_LOG(log_info)
    STRICT_LOG(log_error)
    STRICT_LOG(log_fault)
#undef STRICT_LOG
};
constant os_log os_log_default("", "");

}  // namespace metal
