#import <Foundation/Foundation.h>

#import "OBFMemory.h"
#import "OBFString.h"

@implementation NSMutableString

+ (id)stringWithCapacity:(NSUInteger)capacity {
    return [[[self alloc] initWithCapacity:capacity] autorelease];
}

- (id)initWithCapacity:(NSUInteger)capacity {
    (void)capacity;
    return [self init];
}

- (id)initWithText:(obf_text *)text {
    self = [super initWithText:text];
    _room = text->room;
    return self;
}

- (id)copyWithZone:(NSZone *)zone {
    (void)zone;
    return [[NSString alloc] initWithText:_bytes size:_size];
}

// A caller may keep the bytes while this string changes.
- (const char *)UTF8String {
    return [[[self copy] autorelease] UTF8String];
}

- (NSString *)description {
    return [[self copy] autorelease];
}

- (void)append:(NSString *)format, ... {
    obf_text text = {(char *)_bytes, _size, _room};
    va_list arguments;
    va_start(arguments, format);
    @try {
        obf_append_format(&text, [format UTF8String], arguments);
    } @finally {  // what was appended before an exception is valid text
        va_end(arguments);
        _bytes = text.bytes;
        _size = (unsigned int)text.size;
        _room = text.room;
    }
}

- (void)appendString:(NSString *)other {
    [self append:@"%@", other];
}

- (void)appendFormat:(NSString *)format, ... {
    va_list arguments;
    va_start(arguments, format);
    NSString *added = [[NSString alloc] initWithFormat:format arguments:arguments];
    va_end(arguments);
    @try {
        [self appendString:added];
    } @finally {
        [added release];
    }
}

- (void)setString:(NSString *)other {
    NSString *text = [[other copy] autorelease];
    _size = 0;
    [self appendString:text];
}

@end
