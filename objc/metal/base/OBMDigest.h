// SHA-256 (FIPS 180-4), by which compiled shaders are found again. Plain C.
#ifndef OBM_DIGEST_H
#define OBM_DIGEST_H

#include <stddef.h>

enum { OBM_DIGEST_TEXT = 65 };

// Writes the digest's 64 hexadecimal digits and a zero.
void obm_digest(const void *bytes, size_t length, char text[OBM_DIGEST_TEXT]);

#endif
