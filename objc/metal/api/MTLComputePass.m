#import "MTLComputePass.h"

@implementation MTLComputePassDescriptor

+ (MTLComputePassDescriptor *)computePassDescriptor {
    return [[[self alloc] init] autorelease];
}

- (id)copyWithZone:(NSZone *)zone {
    MTLComputePassDescriptor *copy = [[MTLComputePassDescriptor allocWithZone:zone] init];
    [copy setDispatchType:_dispatchType];
    return copy;
}

- (MTLDispatchType)dispatchType {
    return _dispatchType;
}
- (void)setDispatchType:(MTLDispatchType)type {
    _dispatchType = type;
}

@end
