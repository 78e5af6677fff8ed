// Memory that the checker watches.
#import "metal/checker/engine/CheckMemory.h"
#import "metal/base/OBMBuffer.h"

@interface CheckerBuffer : OBMBuffer {
  @public
    check_memory *_memory;
}
@end
