// How a source file of native kernels tells their names: OB_NATIVE_TABLE(family, rows of cpu_native).
#ifndef OB_NATIVE_NAMES_H
#define OB_NATIVE_NAMES_H

#include "vec.h"

#define OB_NATIVE_TABLE(family, ...)                         \
    static const cpu_native family##_rows[] = {__VA_ARGS__}; \
    extern const cpu_native_table family##_table;            \
    const cpu_native_table family##_table = {family##_rows, sizeof family##_rows / sizeof family##_rows[0]};

#endif
