#ifndef OBF_NSARRAY_H
#define OBF_NSARRAY_H

#import <Foundation/NSEnumerator.h>
#import <Foundation/NSObject.h>

@interface NSArray : NSObject <NSCopying, NSMutableCopying, NSFastEnumeration> {
    id *_objects;
    NSUInteger _count;
}

+ (id)array;
+ (id)arrayWithArray:(NSArray *)other;
+ (id)arrayWithObject:(id)object;
+ (id)arrayWithObjects:(id)first, ... NS_REQUIRES_NIL_TERMINATION;
+ (id)arrayWithObjects:(const id[])objects count:(NSUInteger)count;
- (id)initWithArray:(NSArray *)other;
- (id)initWithObjects:(id)first, ... NS_REQUIRES_NIL_TERMINATION;
- (id)initWithObjects:(const id[])objects count:(NSUInteger)count;

- (NSUInteger)count;
- (id)objectAtIndex:(NSUInteger)index;  // raises NSRangeException beyond the end
- (id)firstObject;
- (id)lastObject;
- (BOOL)containsObject:(id)object;
- (NSUInteger)indexOfObject:(id)object;  // NSNotFound where there is none
- (BOOL)isEqualToArray:(NSArray *)other;

- (NSString *)componentsJoinedByString:(NSString *)separator;
- (NSArray *)arrayByAddingObject:(id)object;
- (NSArray *)arrayByAddingObjectsFromArray:(NSArray *)other;
- (NSArray *)sortedArrayUsingSelector:(SEL)comparator;
- (NSArray *)sortedArrayUsingFunction:(NSInteger (*)(id, id, void *))comparator context:(void *)context;

@end

@interface NSMutableArray : NSArray {
    NSUInteger _room;
    unsigned long _changes;
}

+ (id)arrayWithCapacity:(NSUInteger)capacity;
- (id)initWithCapacity:(NSUInteger)capacity;
- (void)addObject:(id)object;
- (void)addObjectsFromArray:(NSArray *)other;
- (void)insertObject:(id)object atIndex:(NSUInteger)index;
- (void)replaceObjectAtIndex:(NSUInteger)index withObject:(id)object;
- (void)removeObjectAtIndex:(NSUInteger)index;
- (void)removeObject:(id)object;
- (void)removeObjectIdenticalTo:(id)object;
- (void)removeLastObject;
- (void)removeAllObjects;

@end

#endif
