// A kernel ready to dispatch: its pipeline state and what its signature says of its arguments.
//
// Immutable after creation, so safe from any thread.
#import "OBMetal.h"

@class OBArchive;

// Metal's limit on [[buffer(n)]].
#define OB_MAX_BINDINGS 31

// One argument in C, so that a chain can read it without messages. `name` lives with the kernel.
typedef struct {
    const char *name;
    NSUInteger index;      // n of [[buffer(n)]] or [[threadgroup(n)]]
    BOOL threadgroup;      // threadgroup memory instead of a buffer
    BOOL writes;           // device T *, as opposed to device const T * and constant T &
    NSUInteger size;       // bytes of an element
    NSUInteger alignment;  // that the bound offset must have
} OBArgument;

// A member of a struct argument. `name` lives with the kernel.
typedef struct {
    NSString *name;
    NSUInteger offset;
    MTLDataType type;  // of an element where it is an array
    NSUInteger count;  // of an array, else 1
    NSUInteger size;   // of an element that it points to; 0 where it is no pointer
    BOOL writes;       // it points to what is not const
} OBMember;

@interface OBKernel : NSObject {
    id<MTLComputePipelineState> _state;
    NSString *_name;
    NSArray *_bindings;
    OBArgument _arguments[2 * OB_MAX_BINDINGS];
    NSUInteger _argumentCount;
}

// nil and an error when the device cannot make a pipeline of the function. An archive, which may be nil, may have it.
+ (OBKernel *)kernelWithFunction:(id<MTLFunction>)function
                          device:(id<MTLDevice>)device
                         archive:(OBArchive *)archive
                           error:(NSError **)error;

@property(readonly) NSString *name;
@property(readonly) id<MTLComputePipelineState> state;
@property(readonly) NSUInteger argumentCount;

// `index` counts arguments (0 to argumentCount - 1), not binding slots.
- (const OBArgument *)argumentAtIndex:(NSUInteger)index;

// The buffer argument at binding slot `slot`, or NULL.
- (const OBArgument *)bufferArgumentAtSlot:(NSUInteger)slot;

// Members of the struct that argument `index` points to; empty for other arguments.
- (NSUInteger)memberCountOfArgument:(NSUInteger)index;
- (OBMember)member:(NSUInteger)member ofArgument:(NSUInteger)index;

// Threads of the largest threadgroup that the pipeline allows, a multiple of the execution width where one fits.
@property(readonly) NSUInteger threadsPerThreadgroup;

// Whether code that was written by hand for the processor runs instead of the shader.
@property(readonly) BOOL isNative;

@end
