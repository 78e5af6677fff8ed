#import <Foundation/Foundation.h>
#import <objc/message.h>
#import <objc/objc-exception.h>
#import <objc/runtime.h>

#import "OBFMemory.h"

// Before each object: how many references there are besides the first. Sixteen bytes keep the object aligned.
typedef struct {
    uintptr_t extra, unused;
} header;

static header *headerOf(id object) { return (header *)(void *)object - 1; }

__attribute__((noreturn)) static id refuse(id object, SEL selector) {
    if (class_isMetaClass(object_getClass(object)))
        [NSException raise:NSInvalidArgumentException
                    format:@"+[%s %s]: unrecognized selector", class_getName((Class)object), sel_getName(selector)];
    [NSException raise:NSInvalidArgumentException
                format:@"-[%s %s]: unrecognized selector", object_getClassName(object), sel_getName(selector)];
    __builtin_unreachable();
}

static IMP refusalOf(id object, SEL selector) {
    (void)object, (void)selector;
    return (IMP)refuse;
}

static void reportUncaught(id thrown) {
    NSException *exception = thrown;
    BOOL known = [exception isKindOfClass:[NSException class]];
    fprintf(stderr, "uncaught exception %s: %s\n", known ? [[exception name] UTF8String] : "of another kind",
            [(known ? [exception reason] : [exception description]) UTF8String]);
    abort();
}

@implementation NSObject

+ (void)initialize {
    if (self != [NSObject class]) return;
    __objc_msg_forward2 = refusalOf;
    objc_setUncaughtExceptionHandler(reportUncaught);
}

+ (id)alloc {
    header *memory = obf_zeroed(1, sizeof *memory + class_getInstanceSize(self));
    id object = (id)(void *)(memory + 1);
    object_setClass(object, self);
    return object;
}

+ (id)allocWithZone:(NSZone *)zone {
    (void)zone;
    return [self alloc];
}

+ (id)new {
    return [[self alloc] init];
}

+ (Class)class {
    return self;
}

+ (Class)superclass {
    return class_getSuperclass(self);
}

+ (BOOL)instancesRespondToSelector:(SEL)selector {
    return class_respondsToSelector(self, selector);
}

+ (BOOL)isSubclassOfClass:(Class)class {
    for (Class each = self; each != Nil; each = class_getSuperclass(each))
        if (each == class) return YES;
    return NO;
}

+ (BOOL)conformsToProtocol:(Protocol *)protocol {
    for (Class each = self; each != Nil; each = class_getSuperclass(each))
        if (class_conformsToProtocol(each, protocol)) return YES;
    return NO;
}

+ (NSString *)description {
    return NSStringFromClass(self);
}

// A class lives as long as the program.
+ (id)retain {
    return self;
}

+ (oneway void)release {
}

+ (id)autorelease {
    return self;
}

- (id)init {
    return self;
}

- (void)dealloc {
    free(headerOf(self));
}

- (id)retain {
    __atomic_fetch_add(&headerOf(self)->extra, 1, __ATOMIC_RELAXED);
    return self;
}

// Whoever releases last sees all that the others did to the object before.
- (oneway void)release {
    if (__atomic_fetch_sub(&headerOf(self)->extra, 1, __ATOMIC_ACQ_REL) == 0) [self dealloc];
}

- (id)autorelease {
    [NSAutoreleasePool addObject:self];
    return self;
}

- (NSUInteger)retainCount {
    return __atomic_load_n(&headerOf(self)->extra, __ATOMIC_RELAXED) + 1;
}

- (id)copy {
    return [(id<NSCopying>)self copyWithZone:NULL];
}

- (id)mutableCopy {
    return [(id<NSMutableCopying>)self mutableCopyWithZone:NULL];
}

- (Class)class {
    return object_getClass(self);
}

- (Class)superclass {
    return class_getSuperclass(object_getClass(self));
}

- (id)self {
    return self;
}

- (BOOL)isEqual:(id)other {
    return self == other;
}

- (NSUInteger)hash {
    return (NSUInteger)self >> 4;
}

- (NSString *)description {
    return [NSString stringWithFormat:@"<%s: %p>", object_getClassName(self), (void *)self];
}

- (BOOL)isKindOfClass:(Class)class {
    return [object_getClass(self) isSubclassOfClass:class];
}

- (BOOL)isMemberOfClass:(Class)class {
    return object_getClass(self) == class;
}

- (BOOL)conformsToProtocol:(Protocol *)protocol {
    return [object_getClass(self) conformsToProtocol:protocol];
}

- (BOOL)respondsToSelector:(SEL)selector {
    return class_respondsToSelector(object_getClass(self), selector);
}

- (IMP)methodForSelector:(SEL)selector {
    return objc_msg_lookup(self, selector);
}

- (id)performSelector:(SEL)selector {
    return objc_msg_lookup(self, selector)(self, selector);
}

- (id)performSelector:(SEL)selector withObject:(id)object {
    id (*method)(id, SEL, id) = (id (*)(id, SEL, id))objc_msg_lookup(self, selector);
    return method(self, selector, object);
}

- (void)doesNotRecognizeSelector:(SEL)selector {
    refuse(self, selector);
}

@end

NSString *NSStringFromSelector(SEL selector) {
    return selector == NULL ? nil : [NSString stringWithUTF8String:sel_getName(selector)];
}

NSString *NSStringFromClass(Class class) {
    return class == Nil ? nil : [NSString stringWithUTF8String:class_getName(class)];
}

Class NSClassFromString(NSString *name) { return name == nil ? Nil : objc_lookUpClass([name UTF8String]); }
