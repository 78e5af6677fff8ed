#ifndef OBF_NSDICTIONARY_H
#define OBF_NSDICTIONARY_H

#import <Foundation/NSEnumerator.h>
#import <Foundation/NSObject.h>

@class NSArray;

// Keys are copied, and come in the order in which they were first set.
@interface NSDictionary : NSObject <NSCopying, NSMutableCopying, NSFastEnumeration> {
    id *_keys, *_values;  // in order
    uint32_t *_slots;     // 1 + the place of a key, by its hash; 0 where there is none
    NSUInteger _count, _room;
    unsigned long _changes;
}

+ (id)dictionary;
+ (id)dictionaryWithDictionary:(NSDictionary *)other;
+ (id)dictionaryWithObject:(id)object forKey:(id)key;
+ (id)dictionaryWithObjectsAndKeys:(id)first, ... NS_REQUIRES_NIL_TERMINATION;
- (id)initWithDictionary:(NSDictionary *)other;

- (NSUInteger)count;
- (id)objectForKey:(id)key;
- (NSArray *)allKeys;
- (NSArray *)allValues;
- (BOOL)isEqualToDictionary:(NSDictionary *)other;

@end

@interface NSMutableDictionary : NSDictionary

+ (id)dictionaryWithCapacity:(NSUInteger)capacity;
- (id)initWithCapacity:(NSUInteger)capacity;
- (void)setObject:(id)object forKey:(id)key;
- (void)addEntriesFromDictionary:(NSDictionary *)other;
- (void)removeObjectForKey:(id)key;
- (void)removeAllObjects;

@end

#endif
