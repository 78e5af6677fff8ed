#ifndef OBF_NSSTRING_H
#define OBF_NSSTRING_H

#import <Foundation/NSObject.h>
#import <Foundation/NSRange.h>

@class NSArray, NSCharacterSet, NSData, NSError;

typedef uint16_t unichar;
typedef NS_ENUM(NSUInteger, NSStringEncoding) {
    NSASCIIStringEncoding = 1,
    NSUTF8StringEncoding = 4,
    NSISOLatin1StringEncoding = 5
};
typedef NS_OPTIONS(NSUInteger, NSStringCompareOptions) { NSBackwardsSearch = 4 };

// Text that does not change. It is kept as UTF-8; lengths, places and ranges count units of UTF-16, as Apple's do.
// Letter case is that of ASCII only, and texts compare by their code points: names and paths need no more.
@interface NSString : NSObject <NSCopying, NSMutableCopying> {
    const char *_bytes;  // with a zero behind the last; the compiler's own layout of constant strings
    unsigned int _size;
}

+ (id)string;
+ (id)stringWithString:(NSString *)string;
+ (id)stringWithUTF8String:(const char *)text;  // nil where the text is not UTF-8
+ (id)stringWithFormat:(NSString *)format, ...;
+ (id)stringWithContentsOfFile:(NSString *)path encoding:(NSStringEncoding)encoding error:(NSError **)error;
- (id)initWithBytes:(const void *)bytes length:(NSUInteger)length encoding:(NSStringEncoding)encoding;
- (id)initWithData:(NSData *)data encoding:(NSStringEncoding)encoding;
- (id)initWithString:(NSString *)string;
- (id)initWithUTF8String:(const char *)text;
- (id)initWithFormat:(NSString *)format, ...;
- (id)initWithFormat:(NSString *)format arguments:(va_list)arguments;

- (NSUInteger)length;
- (unichar)characterAtIndex:(NSUInteger)index;
- (const char *)UTF8String;
- (const char *)fileSystemRepresentation;
- (NSData *)dataUsingEncoding:(NSStringEncoding)encoding;

- (BOOL)isEqualToString:(NSString *)other;
- (BOOL)hasPrefix:(NSString *)prefix;
- (BOOL)hasSuffix:(NSString *)suffix;
- (NSComparisonResult)compare:(NSString *)other;
- (NSComparisonResult)caseInsensitiveCompare:(NSString *)other;
- (NSRange)rangeOfString:(NSString *)part;
- (NSRange)rangeOfString:(NSString *)part options:(NSStringCompareOptions)options;
- (NSInteger)integerValue;

- (NSString *)substringFromIndex:(NSUInteger)index;
- (NSString *)substringToIndex:(NSUInteger)index;
- (NSString *)substringWithRange:(NSRange)range;
- (NSString *)lowercaseString;
- (NSString *)stringByAppendingString:(NSString *)other;
- (NSString *)stringByAppendingFormat:(NSString *)format, ...;
- (NSString *)stringByReplacingOccurrencesOfString:(NSString *)part withString:(NSString *)other;
- (NSString *)stringByTrimmingCharactersInSet:(NSCharacterSet *)set;
- (NSArray *)componentsSeparatedByString:(NSString *)separator;

@end

@interface NSString (Paths)
- (NSString *)lastPathComponent;
- (NSString *)pathExtension;
- (NSString *)stringByAppendingPathComponent:(NSString *)name;
- (NSString *)stringByDeletingLastPathComponent;
- (NSString *)stringByDeletingPathExtension;
@end

@interface NSMutableString : NSString {
    NSUInteger _room;
}
+ (id)stringWithCapacity:(NSUInteger)capacity;
- (id)initWithCapacity:(NSUInteger)capacity;
- (void)appendString:(NSString *)other;
- (void)appendFormat:(NSString *)format, ...;
- (void)setString:(NSString *)other;
@end

// A string of the source code, which lives as long as the program.
@interface NSConstantString : NSString
@end

// Characters of ASCII.
@interface NSCharacterSet : NSObject {
    uint8_t _has[128];
}
+ (NSCharacterSet *)whitespaceAndNewlineCharacterSet;
+ (NSCharacterSet *)whitespaceCharacterSet;
+ (NSCharacterSet *)characterSetWithCharactersInString:(NSString *)characters;
- (BOOL)characterIsMember:(unichar)character;
@end

#endif
