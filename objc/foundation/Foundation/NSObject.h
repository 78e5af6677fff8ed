#ifndef OBF_NSOBJECT_H
#define OBF_NSOBJECT_H

#import <Foundation/NSObjCRuntime.h>

@class NSString;

@protocol NSObject
- (Class)class;
- (Class)superclass;
- (id)self;
- (BOOL)isEqual:(id)other;
- (NSUInteger)hash;
- (NSString *)description;
- (BOOL)isKindOfClass:(Class)class;
- (BOOL)isMemberOfClass:(Class)class;
- (BOOL)conformsToProtocol:(Protocol *)protocol;
- (BOOL)respondsToSelector:(SEL)selector;
- (id)performSelector:(SEL)selector;
- (id)performSelector:(SEL)selector withObject:(id)object;
- (id)retain;
- (oneway void)release;
- (id)autorelease;
- (NSUInteger)retainCount;
@end

@protocol NSCopying
- (id)copyWithZone:(NSZone *)zone;
@end

@protocol NSMutableCopying
- (id)mutableCopyWithZone:(NSZone *)zone;
@end

// The root of every class. References are counted with atomic operations: any thread may release the last one.
__attribute__((objc_root_class))
@interface NSObject<NSObject> {
    Class isa;
}

+ (void)initialize;
+ (id)alloc;  // raises NSMallocException where there is no memory
+ (id)allocWithZone:(NSZone *)zone;
+ (id)new;
+ (Class)class;
+ (Class)superclass;
+ (BOOL)instancesRespondToSelector:(SEL)selector;
+ (BOOL)isSubclassOfClass:(Class)class;
- (id)init;
- (void)dealloc;
- (id)copy;
- (id)mutableCopy;
- (IMP)methodForSelector:(SEL)selector;
- (void)doesNotRecognizeSelector:(SEL)selector;

@end

#endif
