#import "CUDABuffer.h"

#import "CUDADevice.h"
#import "CUDAMemory.h"
#import "metal/base/OBMError.h"

@implementation CUDABuffer

- (id)initWithDevice:(OBMDevice *)device length:(NSUInteger)length options:(MTLResourceOptions)options {
    const cuda_context *context;
    @try {
        context = [(CUDADevice *)device context];
    } @catch (NSException *exception) {
        [self release];
        @throw;
    }
    MTLResourceOptions mode = (options & MTLResourceStorageModeMask) >> MTLResourceStorageModeShift;
    obm_memory memory;
    CUresult result;
    if (!cuda_memory_new(context, mode == MTLStorageModePrivate ? CUDA_PRIVATE : CUDA_SHARED, length, &memory,
                         &result)) {
        [self release];
        if (result == CUDA_ERROR_LAUNCH_TIMEOUT)
            OBMRaise(@"newBuffer: an earlier command buffer did not end; open the device again");
        if (result != CUDA_ERROR_OUT_OF_MEMORY)
            OBMRaise(@"newBuffer: the GPU's driver says: %s%s", cuda_text(result),
                     cuda_is_broken(result) ? cuda_cure : "");
        return nil;
    }
    self = [super initWithDevice:device memory:memory options:options];
    if (self == nil) cuda_memory_free(context, &memory);
    return self;
}

- (id)initWithDevice:(OBMDevice *)device
              memory:(void *)memory
              length:(NSUInteger)length
             options:(MTLResourceOptions)options {
    obm_memory wrapped;
    if (!cuda_memory_wrap(memory, length, &wrapped)) {
        [self release];
        return nil;
    }
    return [super initWithDevice:device memory:wrapped options:options];
}

- (void)dealloc {
    if (_memory.own != NULL) cuda_memory_free([(CUDADevice *)_device context], &_memory);
    [super dealloc];
}

@end
