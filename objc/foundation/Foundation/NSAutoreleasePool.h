#ifndef OBF_NSAUTORELEASEPOOL_H
#define OBF_NSAUTORELEASEPOOL_H

#import <Foundation/NSObject.h>

// Releases at its end what was autoreleased on this thread since its start, inner pools that were left behind included.
@interface NSAutoreleasePool : NSObject {
    NSAutoreleasePool *_outer;
    struct obf_page *_last;
}

+ (void)addObject:(id)object;
- (void)drain;

@end

#endif
