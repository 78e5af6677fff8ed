// Memory that the checker watches.
#import "../checker/CheckMemory.h"
#import "CPUBuffer.h"

@interface CheckerBuffer : CPUBuffer {
  @public
    check_memory *_memory;
}
@end
