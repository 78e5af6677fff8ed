#import "MTLIndirectCommandBuffer.h"

enum { DEFAULT_BIND_COUNT = 31 };

@implementation MTLIndirectCommandBufferDescriptor

- (id)init {
    self = [super init];
    if (self == nil) return nil;
    _maxKernelBufferBindCount = _maxKernelThreadgroupMemoryBindCount = DEFAULT_BIND_COUNT;
    return self;
}

- (id)copyWithZone:(NSZone *)zone {
    MTLIndirectCommandBufferDescriptor *copy = [[MTLIndirectCommandBufferDescriptor allocWithZone:zone] init];
    [copy setCommandTypes:_commandTypes];
    [copy setInheritPipelineState:_inheritPipelineState];
    [copy setInheritBuffers:_inheritBuffers];
    [copy setMaxKernelBufferBindCount:_maxKernelBufferBindCount];
    [copy setMaxKernelThreadgroupMemoryBindCount:_maxKernelThreadgroupMemoryBindCount];
    return copy;
}

- (MTLIndirectCommandType)commandTypes {
    return _commandTypes;
}
- (void)setCommandTypes:(MTLIndirectCommandType)value {
    _commandTypes = value;
}
- (BOOL)inheritPipelineState {
    return _inheritPipelineState;
}
- (void)setInheritPipelineState:(BOOL)value {
    _inheritPipelineState = value;
}
- (BOOL)inheritBuffers {
    return _inheritBuffers;
}
- (void)setInheritBuffers:(BOOL)value {
    _inheritBuffers = value;
}
- (NSUInteger)maxKernelBufferBindCount {
    return _maxKernelBufferBindCount;
}
- (void)setMaxKernelBufferBindCount:(NSUInteger)value {
    _maxKernelBufferBindCount = value;
}
- (NSUInteger)maxKernelThreadgroupMemoryBindCount {
    return _maxKernelThreadgroupMemoryBindCount;
}
- (void)setMaxKernelThreadgroupMemoryBindCount:(NSUInteger)value {
    _maxKernelThreadgroupMemoryBindCount = value;
}

@end
