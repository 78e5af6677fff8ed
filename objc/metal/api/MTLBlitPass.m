#import "MTLBlitPass.h"

@implementation MTLBlitPassDescriptor

+ (MTLBlitPassDescriptor *)blitPassDescriptor {
    return [[[self alloc] init] autorelease];
}

- (id)copyWithZone:(NSZone *)zone {
    return [[MTLBlitPassDescriptor allocWithZone:zone] init];
}

@end
