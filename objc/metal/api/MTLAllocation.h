// Memory that a residency set may hold. macOS 15 has it.
#import "MTLDefines.h"

@protocol MTLAllocation <NSObject>

@property(readonly) NSUInteger allocatedSize;  // bytes

@end
