#ifndef OBF_NSSET_H
#define OBF_NSSET_H

#import <Foundation/NSEnumerator.h>
#import <Foundation/NSObject.h>

@class NSArray, NSMutableDictionary;

@interface NSSet : NSObject <NSFastEnumeration> {
    NSMutableDictionary *_members;
}
+ (id)set;
- (NSUInteger)count;
- (BOOL)containsObject:(id)object;
- (NSArray *)allObjects;
@end

@interface NSMutableSet : NSSet
- (void)addObject:(id)object;
- (void)removeObject:(id)object;
- (void)removeAllObjects;
@end

#endif
