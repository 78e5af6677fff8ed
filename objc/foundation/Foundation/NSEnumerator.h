#ifndef OBF_NSENUMERATOR_H
#define OBF_NSENUMERATOR_H

#import <Foundation/NSObjCRuntime.h>

typedef struct {
    unsigned long state;
    id *itemsPtr;
    unsigned long *mutationsPtr;
    unsigned long extra[5];
} NSFastEnumerationState;

// A loop `for (x in collection)` calls this method.
@protocol NSFastEnumeration
- (NSUInteger)countByEnumeratingWithState:(NSFastEnumerationState *)state objects:(id[])buffer count:(NSUInteger)count;
@end

#endif
