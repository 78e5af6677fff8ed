// Definitions that the headers of this folder need from the compiler. They declare the part of Apple's Metal
// that Onebuf uses, with Apple's selectors, argument types and constants, for GCC.
// Nullability and availability are left out, because GCC does not parse them.
#import <Foundation/Foundation.h>

#ifndef MTL_EXTERN
#ifdef __cplusplus
#define MTL_EXTERN extern "C"
#else
#define MTL_EXTERN extern
#endif
#endif

#ifndef MTL_INLINE
#define MTL_INLINE static inline
#endif

// GCC has no blocks: a block parameter is an object there, and the only value it takes is nil.
#ifdef __BLOCKS__
#define MTL_BLOCK(result, ...) result (^)(__VA_ARGS__)
#else
#define MTL_BLOCK(result, ...) id
#endif

typedef double CFTimeInterval;  // seconds
