// A shader library for GPUs: signatures in cuda.so, and CUDA C++ in the folder cuda/ beside it.
//
// A kernel's machine code is looked for in the bundle's cuda/ARCHITECTURE/, then in the user's cache; else NVRTC
// compiles it when a pipeline state is made of it, and the cache keeps it. Values of function constants make code of
// their own.
#import "metal/abi/metallib_cuda.h"
#import "metal/base/OBMLibrary.h"

@interface CUDALibrary : OBMLibrary {
    const metallib_cuda *_cuda;
    struct cuda_code *_codes;
    NSMutableDictionary *_specialised;  // NSMutableData with a cuda_code, by the name of its image
    NSString *_folder;
}
@end
