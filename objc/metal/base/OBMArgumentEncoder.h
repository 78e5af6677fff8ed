// See MTLArgumentEncoder.h. It keeps its function, and the buffer that it writes to.
#import "OBMObject.h"
#import "metal/abi/metallib.h"
#import "OBMMetal.h"

@class OBMBuffer;
@class OBMFunction;

@interface OBMArgumentEncoder : OBMObject <MTLArgumentEncoder> {
    OBMFunction *_function;
    const metallib_argument *_argument;
    const metallib_slots *_slots;
    OBMBuffer *_buffer;
    NSUInteger _start;
}

// Raises where the function has no argument buffer at `index`.
- (id)initWithFunction:(OBMFunction *)function index:(NSUInteger)index;

@end
