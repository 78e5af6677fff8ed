// The smallest shader library: one function that is called FUNCTION and does nothing.
#include <stddef.h>

#include "metal/abi/metallib.h"

#ifndef ABI
#define ABI METALLIB_ABI
#endif
#ifndef WIDTH
#define WIDTH 1
#endif

static void nothing(const metallib_launch *l, uint32_t first, uint32_t count) {
    (void)l;
    (void)first;
    (void)count;
}

static const metallib_function functions[] = {{{FUNCTION, NULL, 0, 1, WIDTH, 0, NULL, 0}, nothing}};

const metallib ob_metallib = {ABI, 1, "tiny", functions};
