// How to make a blit encoder. There is nothing to choose here.
#import "MTLDefines.h"

@interface MTLBlitPassDescriptor : NSObject <NSCopying>

+ (MTLBlitPassDescriptor *)blitPassDescriptor;

@end
