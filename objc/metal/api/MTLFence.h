// Orders encoders. They run one after another here, so a fence has nothing left to do.
#import "MTLDefines.h"

@protocol MTLDevice;

@protocol MTLFence <NSObject>

@property(readonly) id<MTLDevice> device;
@property(copy, atomic) NSString *label;

@end
