#import "CheckerBuffer.h"

#import "CheckerDevice.h"

@implementation CheckerBuffer

- (id)initWithDevice:(CPUDevice *)device length:(NSUInteger)length options:(MTLResourceOptions)options {
    check_memory *memory = check_memory_new(length, NULL);
    if (memory == NULL) {
        [self release];
        return nil;
    }
    self = [super initWithDevice:device memory:memory->bytes length:length options:options];
    if (self == nil) check_memory_free(memory);
    else _memory = memory;
    return self;
}

- (id)initWithDevice:(CPUDevice *)device
              memory:(void *)memory
              length:(NSUInteger)length
             options:(MTLResourceOptions)options {
    self = [super initWithDevice:device memory:memory length:length options:options];
    if (self == nil) return nil;
    _memory = check_memory_new(length, memory);
    if (_memory != NULL) return self;
    [self release];
    return nil;
}

- (void)dealloc {
    if (_memory != NULL) [(CheckerDevice *)_device forget:_memory];
    check_memory_free(_memory);
    [super dealloc];
}

@end
