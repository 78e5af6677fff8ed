// How to make a compute encoder.
#import "MTLCommandBuffer.h"

@interface MTLComputePassDescriptor : NSObject <NSCopying> {
    MTLDispatchType _dispatchType;
}

+ (MTLComputePassDescriptor *)computePassDescriptor;

@property(nonatomic) MTLDispatchType dispatchType;

@end
