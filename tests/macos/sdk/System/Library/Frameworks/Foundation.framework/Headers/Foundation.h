// What Onebuf uses of Foundation, with Apple's selectors and types. The program that is linked against this is looked at,
// and never run.
#pragma once
#include <limits.h>
#include <objc/objc.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

typedef long NSInteger;
typedef unsigned long NSUInteger;
typedef struct _NSZone NSZone;
typedef uint16_t unichar;
typedef struct {
    NSUInteger location, length;
} NSRange;
typedef struct {
    unsigned long state;
    id *itemsPtr;
    unsigned long *mutationsPtr;
    unsigned long extra[5];
} NSFastEnumerationState;

#define NS_ENUM(type, name) \
    type name;              \
    enum
#define NS_OPTIONS(type, name) NS_ENUM(type, name)
#define NS_FORMAT_FUNCTION(text, first) __attribute__((format(__NSString__, text, first)))
#define NSIntegerMax LONG_MAX
#define NSUIntegerMax ULONG_MAX
enum { NSNotFound = 0x7FFFFFFFFFFFFFFF };
typedef NS_ENUM(NSInteger, NSComparisonResult) { NSOrderedAscending = -1, NSOrderedSame, NSOrderedDescending };
typedef NS_ENUM(NSUInteger, NSStringEncoding) {
    NSUTF8StringEncoding = 4,
    NSISOLatin1StringEncoding = 5
};
typedef NS_ENUM(NSUInteger, NSStringCompareOptions) { NSBackwardsSearch = 4 };

@class NSArray, NSCharacterSet, NSData, NSDictionary, NSError, NSMethodSignature, NSString;
typedef NSString *NSErrorDomain;
typedef NSString *NSExceptionName;

@protocol NSObject
- (BOOL)isEqual:(id)object;
- (NSUInteger)hash;
- (Class) class;
- (BOOL)isKindOfClass:(Class)kind;
- (BOOL)conformsToProtocol:(Protocol *)protocol;
- (BOOL)respondsToSelector:(SEL)selector;
- (instancetype)retain;
- (oneway void)release;
- (instancetype)autorelease;
- (NSUInteger)retainCount;
- (NSString *)description;
@end

@protocol NSCopying
- (id)copyWithZone:(NSZone *)zone;
@end

@protocol NSFastEnumeration
- (NSUInteger)countByEnumeratingWithState:(NSFastEnumerationState *)state objects:(id *)objects count:(NSUInteger)count;
@end

__attribute__((objc_root_class)) @interface NSObject<NSObject> {
    Class isa;
}
+ (instancetype)alloc;
+ (instancetype)allocWithZone:(NSZone *)zone;
+ (instancetype)new;
+ (Class) class;
- (instancetype)init;
- (void)dealloc;
- (id)copy;
- (id)mutableCopy;
- (void)doesNotRecognizeSelector:(SEL)selector;
@end

@interface NSAutoreleasePool : NSObject
- (void)drain;
@end

@interface NSLock : NSObject
- (void)lock;
- (void)unlock;
@end

@interface NSString : NSObject <NSCopying>
+ (instancetype)string;
+ (instancetype)stringWithUTF8String:(const char *)text;
+ (instancetype)stringWithFormat:(NSString *)format, ...;
- (instancetype)initWithUTF8String:(const char *)text;
- (instancetype)initWithFormat:(NSString *)format, ...;
- (instancetype)initWithFormat:(NSString *)format arguments:(va_list)arguments;
- (instancetype)initWithData:(NSData *)data encoding:(NSStringEncoding)encoding;
- (NSUInteger)length;
- (unichar)characterAtIndex:(NSUInteger)index;
- (const char *)UTF8String;
- (const char *)fileSystemRepresentation;
- (NSData *)dataUsingEncoding:(NSStringEncoding)encoding;
- (BOOL)isEqualToString:(NSString *)other;
- (BOOL)hasPrefix:(NSString *)text;
- (BOOL)hasSuffix:(NSString *)text;
- (NSComparisonResult)compare:(NSString *)other;
- (NSComparisonResult)caseInsensitiveCompare:(NSString *)other;
- (NSRange)rangeOfString:(NSString *)text;
- (NSRange)rangeOfString:(NSString *)text options:(NSStringCompareOptions)options;
- (NSInteger)integerValue;
- (NSString *)substringFromIndex:(NSUInteger)index;
- (NSString *)substringToIndex:(NSUInteger)index;
- (NSString *)substringWithRange:(NSRange)range;
- (NSString *)lowercaseString;
- (NSString *)stringByAppendingString:(NSString *)other;
- (NSString *)stringByAppendingPathComponent:(NSString *)name;
- (NSString *)stringByDeletingLastPathComponent;
- (NSString *)stringByReplacingOccurrencesOfString:(NSString *)text withString:(NSString *)other;
- (NSString *)stringByTrimmingCharactersInSet:(NSCharacterSet *)set;
- (NSArray *)componentsSeparatedByString:(NSString *)separator;
@end

@interface NSMutableString : NSString
- (void)appendString:(NSString *)other;
- (void)appendFormat:(NSString *)format, ...;
@end

@interface NSCharacterSet : NSObject
+ (NSCharacterSet *)whitespaceAndNewlineCharacterSet;
@end

@interface NSNumber : NSObject
+ (NSNumber *)numberWithUnsignedLong:(unsigned long)value;
- (unsigned long)unsignedLongValue;
@end

@interface NSData : NSObject <NSCopying>
+ (instancetype)data;
+ (instancetype)dataWithBytes:(const void *)bytes length:(NSUInteger)length;
- (NSUInteger)length;
- (const void *)bytes;
@end

@interface NSMutableData : NSData
- (void *)mutableBytes;
- (void)appendBytes:(const void *)bytes length:(NSUInteger)length;
@end

@interface NSArray : NSObject <NSCopying, NSFastEnumeration>
+ (instancetype)array;
+ (instancetype)arrayWithObject:(id)object;
+ (instancetype)arrayWithObjects:(id)first, ...;
+ (instancetype)arrayWithArray:(NSArray *)other;
- (instancetype)initWithCapacity:(NSUInteger)count;
- (NSUInteger)count;
- (id)lastObject;
- (id)objectAtIndex:(NSUInteger)index;
- (BOOL)containsObject:(id)object;
- (NSArray *)arrayByAddingObject:(id)object;
- (NSArray *)arrayByAddingObjectsFromArray:(NSArray *)other;
- (NSString *)componentsJoinedByString:(NSString *)separator;
- (NSArray *)sortedArrayUsingSelector:(SEL)comparator;
- (NSArray *)sortedArrayUsingFunction:(NSInteger (*)(id, id, void *))comparator context:(void *)context;
@end

@interface NSMutableArray : NSArray
+ (instancetype)arrayWithCapacity:(NSUInteger)count;
- (void)addObject:(id)object;
- (void)addObjectsFromArray:(NSArray *)other;
- (void)removeObjectIdenticalTo:(id)object;
- (void)removeObjectAtIndex:(NSUInteger)index;
- (void)removeLastObject;
- (void)removeAllObjects;
@end

@interface NSDictionary : NSObject <NSCopying, NSFastEnumeration>
+ (instancetype)dictionary;
+ (instancetype)dictionaryWithObject:(id)object forKey:(id)key;
- (NSUInteger)count;
- (id)objectForKey:(id)key;
- (NSArray *)allKeys;
- (NSArray *)allValues;
@end

@interface NSMutableDictionary : NSDictionary
- (void)setObject:(id)object forKey:(id)key;
- (void)removeObjectForKey:(id)key;
- (void)removeAllObjects;
- (void)addEntriesFromDictionary:(NSDictionary *)other;
@end

@interface NSSet : NSObject <NSFastEnumeration>
+ (instancetype)set;
- (NSArray *)allObjects;
@end

@interface NSMutableSet : NSSet
- (void)addObject:(id)object;
@end

@interface NSURL : NSObject
+ (NSURL *)fileURLWithPath:(NSString *)path;
- (BOOL)isFileURL;
- (NSString *)path;
@end

@interface NSError : NSObject
+ (instancetype)errorWithDomain:(NSErrorDomain)domain code:(NSInteger)code userInfo:(NSDictionary *)info;
- (NSInteger)code;
- (NSErrorDomain)domain;
- (NSString *)localizedDescription;
@end

@interface NSException : NSObject
+ (NSException *)exceptionWithName:(NSExceptionName)name reason:(NSString *)reason userInfo:(NSDictionary *)info;
+ (void)raise:(NSExceptionName)name format:(NSString *)format, ...;
- (NSExceptionName)name;
- (NSString *)reason;
@end

@interface NSFileManager : NSObject
+ (NSFileManager *)defaultManager;
- (BOOL)removeItemAtPath:(NSString *)path error:(NSError **)error;
@end

extern NSString *const NSLocalizedDescriptionKey;
extern NSExceptionName const NSInternalInconsistencyException, NSInvalidArgumentException, NSMallocException;
extern NSExceptionName const NSRangeException;
NSUInteger NSPageSize(void);
NSString *NSStringFromClass(Class name);
NSString *NSStringFromSelector(SEL selector);
Class NSClassFromString(NSString *name);

static inline NSRange NSMakeRange(NSUInteger location, NSUInteger length) {
    NSRange range = {location, length};
    return range;
}
static inline NSUInteger NSMaxRange(NSRange range) { return range.location + range.length; }
