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

- (void)dealloc {
    if (_memory.own != NULL) {
        [(CheckerDevice *)_device forget:_memory.own];
        check_memory_free(_memory.own);
    }
    [super dealloc];
}

@end
