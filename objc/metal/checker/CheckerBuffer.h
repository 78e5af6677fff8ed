// Memory that the checker watches: its own is a check_memory.
#import "metal/base/OBMBuffer.h"

@interface CheckerBuffer : OBMBuffer
@end
