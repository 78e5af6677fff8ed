#import "CheckerBuffer.h"

#import "CheckerDevice.h"
#import "metal/checker/engine/CheckMemory.h"

@implementation CheckerBuffer

- (id)initWithDevice:(OBMDevice *)device watched:(check_memory *)watched options:(MTLResourceOptions)options {
    if (watched == NULL) {
        [self release];
        return nil;
    }
    char *bytes = watched->bytes;
    obm_memory memory = {.bytes = bytes, .address = bytes, .length = watched->length, .own = watched};
    self = [super initWithDevice:device memory:memory options:options];
    if (self == nil) check_memory_free(watched);
    return self;
}

- (id)initWithDevice:(OBMDevice *)device length:(NSUInteger)length options:(MTLResourceOptions)options {
    return [self initWithDevice:device watched:check_memory_new(length, NULL) options:options];
}

- (id)initWithDevice:(OBMDevice *)device
              memory:(void *)memory
              length:(NSUInteger)length
             options:(MTLResourceOptions)options {
    return [self initWithDevice:device watched:check_memory_new(length, memory) options:options];
}

// With nothing near it, so that a kernel which goes beyond the buffer meets no other.
- (uint64_t)gpuAddress {
    return (uint64_t)(uintptr_t)check_memory_apart(_memory.own);
}

- (void)dealloc {
    if (_memory.own != NULL) {
        [(CheckerDevice *)_device forget:_memory.own];
        check_memory_free(_memory.own);
    }
    [super dealloc];
}

@end
