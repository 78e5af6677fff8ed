#import "MTLCommandBuffer.h"

@implementation MTLCommandBufferDescriptor

- (id)init {
    self = [super init];
    if (self != nil) _retainedReferences = YES;
    return self;
}

- (id)copyWithZone:(NSZone *)zone {
    MTLCommandBufferDescriptor *copy = [[MTLCommandBufferDescriptor allocWithZone:zone] init];
    [copy setRetainedReferences:_retainedReferences];
    [copy setErrorOptions:_errorOptions];
    return copy;
}

- (BOOL)retainedReferences {
    return _retainedReferences;
}
- (void)setRetainedReferences:(BOOL)retained {
    _retainedReferences = retained;
}
- (MTLCommandBufferErrorOption)errorOptions {
    return _errorOptions;
}
- (void)setErrorOptions:(MTLCommandBufferErrorOption)options {
    _errorOptions = options;
}

@end
