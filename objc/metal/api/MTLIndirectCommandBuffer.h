// Commands that are recorded once and executed any number of times, each time with one call of an encoder.
#import "MTLIndirectCommandEncoder.h"
#import "MTLResource.h"

typedef NS_OPTIONS(NSUInteger, MTLIndirectCommandType) {
    MTLIndirectCommandTypeDraw = 1 << 0,
    MTLIndirectCommandTypeDrawIndexed = 1 << 1,
    MTLIndirectCommandTypeDrawPatches = 1 << 2,
    MTLIndirectCommandTypeDrawIndexedPatches = 1 << 3,
    MTLIndirectCommandTypeConcurrentDispatch = 1 << 5,
    MTLIndirectCommandTypeConcurrentDispatchThreads = 1 << 6,
    MTLIndirectCommandTypeDrawMeshThreadgroups = 1 << 7,
    MTLIndirectCommandTypeDrawMeshThreads = 1 << 8,
};

// Commands here dispatch kernels, and they inherit nothing from the encoder that executes them. Apple asks to set what
// is inherited always, and so do not rely on what it is in a new descriptor.
@interface MTLIndirectCommandBufferDescriptor : NSObject <NSCopying> {
    MTLIndirectCommandType _commandTypes;
    BOOL _inheritPipelineState;
    BOOL _inheritBuffers;
    NSUInteger _maxKernelBufferBindCount;
    NSUInteger _maxKernelThreadgroupMemoryBindCount;
}

@property(readwrite, nonatomic) MTLIndirectCommandType commandTypes;
@property(readwrite, nonatomic) BOOL inheritPipelineState;
@property(readwrite, nonatomic) BOOL inheritBuffers;
@property(readwrite, nonatomic) NSUInteger maxKernelBufferBindCount;             // indices of a command from 0 on
@property(readwrite, nonatomic) NSUInteger maxKernelThreadgroupMemoryBindCount;  // the same; 31 at first

@end

@protocol MTLIndirectCommandBuffer <MTLResource>

@property(readonly) NSUInteger size;  // in commands

- (void)resetWithRange:(NSRange)range;

- (id<MTLIndirectComputeCommand>)indirectComputeCommandAtIndex:(NSUInteger)commandIndex;

@end
