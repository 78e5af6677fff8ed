// A kernel, ready to be dispatched.
#import "MTLArgument.h"
#import "MTLTypes.h"

@protocol MTLDevice;
@protocol MTLFunction;

// Declared alone, as the classes of MTLArgument.h are.
@interface MTLComputePipelineReflection : NSObject

@property(readonly) NSArray *bindings;  // of id<MTLBinding>

@end

@interface MTLComputePipelineDescriptor : NSObject <NSCopying> {
    NSString *_label;
    id<MTLFunction> _computeFunction;
    BOOL _threadGroupSizeIsMultipleOfThreadExecutionWidth;
    NSUInteger _maxTotalThreadsPerThreadgroup;
    BOOL _supportIndirectCommandBuffers;
    NSArray *_binaryArchives;
}

@property(copy, nonatomic) NSString *label;
@property(readwrite, nonatomic, retain) id<MTLFunction> computeFunction;
@property(readwrite, nonatomic) BOOL threadGroupSizeIsMultipleOfThreadExecutionWidth;
@property(readwrite, nonatomic) NSUInteger maxTotalThreadsPerThreadgroup;  // 0: the kernel's own limit
@property(readwrite, nonatomic) BOOL supportIndirectCommandBuffers;
@property(readwrite, nonatomic, copy) NSArray *binaryArchives;  // of id<MTLBinaryArchive>, searched for the function

- (void)reset;

@end

@protocol MTLComputePipelineState <NSObject>

@property(readonly) NSString *label;
@property(readonly) id<MTLDevice> device;
@property(readonly) NSUInteger maxTotalThreadsPerThreadgroup;
@property(readonly) NSUInteger threadExecutionWidth;
@property(readonly) NSUInteger staticThreadgroupMemoryLength;  // bytes
@property(readonly) BOOL supportIndirectCommandBuffers;        // some devices say YES whatever the descriptor said

@end
