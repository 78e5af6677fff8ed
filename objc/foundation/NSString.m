#define _GNU_SOURCE
#import <Foundation/Foundation.h>
#import <errno.h>
#import <strings.h>

#import "OBFMemory.h"
#import "OBFString.h"

@implementation NSString

+ (id)string {
    return [[[self alloc] init] autorelease];
}

+ (id)stringWithString:(NSString *)string {
    return [[[self alloc] initWithString:string] autorelease];
}

+ (id)stringWithUTF8String:(const char *)text {
    return [[[self alloc] initWithUTF8String:text] autorelease];
}

+ (id)stringWithFormat:(NSString *)format, ... {
    va_list arguments;
    va_start(arguments, format);
    NSString *made = [[[self alloc] initWithFormat:format arguments:arguments] autorelease];
    va_end(arguments);
    return made;
}

+ (id)stringWithContentsOfFile:(NSString *)path encoding:(NSStringEncoding)encoding error:(NSError **)error {
    NSData *data = [NSData dataWithContentsOfFile:path];
    NSString *made = data == nil ? nil : [[[self alloc] initWithData:data encoding:encoding] autorelease];
    if (made == nil && error != NULL) {
        NSString *text =
            [NSString stringWithFormat:@"%@: %s", path, data == nil ? strerror(errno) : "not this encoding"];
        *error = [NSError errorWithDomain:NSPOSIXErrorDomain
                                     code:data == nil ? errno : EILSEQ
                                 userInfo:[NSDictionary dictionaryWithObject:text forKey:NSLocalizedDescriptionKey]];
    }
    return made;
}

- (id)init {
    return [self initWithText:"" size:0];
}

- (id)initWithString:(NSString *)string {
    return [self initWithText:string->_bytes size:string->_size];
}

- (id)initWithUTF8String:(const char *)text {
    return [self initWithBytes:text length:strlen(text) encoding:NSUTF8StringEncoding];
}

- (id)initWithData:(NSData *)data encoding:(NSStringEncoding)encoding {
    return [self initWithBytes:[data bytes] length:[data length] encoding:encoding];
}

- (id)initWithBytes:(const void *)bytes length:(NSUInteger)length encoding:(NSStringEncoding)encoding {
    if (encoding == NSISOLatin1StringEncoding) {
        obf_text text = {0};
        @try {
            obf_append_latin1(&text, bytes, length);
        } @catch (NSException *exception) {
            free(text.bytes);
            [self release];
            @throw;
        }
        return [self initWithText:&text];
    }
    BOOL fits =
        obf_is_utf8(bytes, length) &&
        (encoding == NSUTF8StringEncoding || (encoding == NSASCIIStringEncoding && obf_units(bytes, length) == length));
    if (fits) return [self initWithText:bytes size:length];
    [self release];
    return nil;
}

- (id)initWithFormat:(NSString *)format, ... {
    va_list arguments;
    va_start(arguments, format);
    self = [self initWithFormat:format arguments:arguments];
    va_end(arguments);
    return self;
}

- (id)initWithFormat:(NSString *)format arguments:(va_list)arguments {
    obf_text text = {0};
    @try {
        obf_append_format(&text, format->_bytes, arguments);
    } @catch (NSException *exception) {
        free(text.bytes);
        [self release];
        @throw;
    }
    return [self initWithText:&text];
}

- (void)dealloc {
    free((char *)_bytes);
    [super dealloc];
}

- (id)copyWithZone:(NSZone *)zone {
    (void)zone;
    return [self retain];
}

- (id)mutableCopyWithZone:(NSZone *)zone {
    (void)zone;
    return [[NSMutableString alloc] initWithString:self];
}

- (NSString *)description {
    return self;
}

- (NSUInteger)length {
    return obf_units(_bytes, _size);
}

- (unichar)characterAtIndex:(NSUInteger)index {
    if (obf_place(_bytes, _size, index) >= _size)
        [NSException raise:NSRangeException format:@"character %lu of '%@'", (unsigned long)index, self];
    return obf_unit_at(_bytes, _size, index);
}

- (const char *)UTF8String {
    return _bytes;
}

- (const char *)fileSystemRepresentation {
    return [self UTF8String];
}

- (NSData *)dataUsingEncoding:(NSStringEncoding)encoding {
    if (encoding == NSASCIIStringEncoding && obf_units(_bytes, _size) != _size) return nil;
    return encoding == NSISOLatin1StringEncoding ? nil : [NSData dataWithBytes:_bytes length:_size];
}

- (BOOL)isEqualToString:(NSString *)other {
    return other == self || (other != nil && other->_size == _size && memcmp(other->_bytes, _bytes, _size) == 0);
}

- (BOOL)isEqual:(id)other {
    return [other isKindOfClass:[NSString class]] && [self isEqualToString:other];
}

// FNV-1a.
- (NSUInteger)hash {
    uint64_t hash = 0xCBF29CE484222325;
    for (unsigned int i = 0; i < _size; i++) hash = (hash ^ (uint8_t)_bytes[i]) * 0x100000001B3;
    return (NSUInteger)hash;
}

- (BOOL)hasPrefix:(NSString *)prefix {
    return prefix->_size <= _size && memcmp(_bytes, prefix->_bytes, prefix->_size) == 0;
}

- (BOOL)hasSuffix:(NSString *)suffix {
    return suffix->_size <= _size && memcmp(_bytes + _size - suffix->_size, suffix->_bytes, suffix->_size) == 0;
}

- (NSComparisonResult)compare:(NSString *)other {
    int order = memcmp(_bytes, other->_bytes, _size < other->_size ? _size : other->_size);
    if (order == 0) order = (_size > other->_size) - (_size < other->_size);
    return order < 0 ? NSOrderedAscending : order > 0 ? NSOrderedDescending : NSOrderedSame;
}

- (NSComparisonResult)caseInsensitiveCompare:(NSString *)other {
    return [[self lowercaseString] compare:[other lowercaseString]];
}

- (NSRange)rangeOfString:(NSString *)part {
    return [self rangeOfString:part options:0];
}

- (NSRange)rangeOfString:(NSString *)part options:(NSStringCompareOptions)options {
    BOOL backwards = (options & NSBackwardsSearch) != 0;
    size_t starts = part->_size > 0 && part->_size <= _size ? _size - part->_size + 1 : 0;
    for (size_t i = 0; i < starts; i++) {
        size_t at = backwards ? starts - 1 - i : i;
        if (memcmp(_bytes + at, part->_bytes, part->_size) == 0)
            return NSMakeRange(obf_units(_bytes, at), obf_units(part->_bytes, part->_size));
    }
    return NSMakeRange(NSNotFound, 0);
}

- (NSInteger)integerValue {
    return strtol(_bytes, NULL, 10);
}

- (NSString *)substringWithRange:(NSRange)range {
    size_t first = obf_place(_bytes, _size, range.location);
    size_t end = first > _size ? first : first + obf_place(_bytes + first, _size - first, range.length);
    if (end > _size)
        [NSException
             raise:NSRangeException
            format:@"units %lu to %lu of '%@'", (unsigned long)range.location, (unsigned long)NSMaxRange(range), self];
    return [NSString stringWithText:_bytes + first size:end - first];
}

- (NSString *)substringFromIndex:(NSUInteger)index {
    NSUInteger length = [self length];
    return [self substringWithRange:NSMakeRange(index, index > length ? 0 : length - index)];
}

- (NSString *)substringToIndex:(NSUInteger)index {
    return [self substringWithRange:NSMakeRange(0, index)];
}

- (NSString *)lowercaseString {
    NSString *made = [NSString stringWithText:_bytes size:_size];
    char *bytes = (char *)made->_bytes;
    for (unsigned int i = 0; i < _size; i++)
        if (bytes[i] >= 'A' && bytes[i] <= 'Z') bytes[i] = (char)(bytes[i] + ('a' - 'A'));
    return made;
}

- (NSString *)stringByAppendingString:(NSString *)other {
    if (other == nil)
        [NSException raise:NSInvalidArgumentException format:@"stringByAppendingString: nothing is appended"];
    return [NSString stringWithFormat:@"%@%@", self, other];
}

- (NSString *)stringByAppendingFormat:(NSString *)format, ... {
    va_list arguments;
    va_start(arguments, format);
    NSString *added = [[[NSString alloc] initWithFormat:format arguments:arguments] autorelease];
    va_end(arguments);
    return [self stringByAppendingString:added];
}

- (NSString *)stringByReplacingOccurrencesOfString:(NSString *)part withString:(NSString *)other {
    return part->_size == 0 ? self : [[self componentsSeparatedByString:part] componentsJoinedByString:other];
}

- (NSString *)stringByTrimmingCharactersInSet:(NSCharacterSet *)set {
    size_t first = 0, end = _size;
    while (first < end && [set characterIsMember:(uint8_t)_bytes[first]]) first++;
    while (end > first && [set characterIsMember:(uint8_t)_bytes[end - 1]]) end--;
    return [NSString stringWithText:_bytes + first size:end - first];
}

- (NSArray *)componentsSeparatedByString:(NSString *)separator {
    NSMutableArray *parts = [NSMutableArray array];
    const char *at = _bytes, *end = _bytes + _size;
    for (const char *found;
         separator->_size > 0 && (found = memmem(at, (size_t)(end - at), separator->_bytes, separator->_size)) != NULL;
         at = found + separator->_size)
        [parts addObject:[NSString stringWithText:at size:(size_t)(found - at)]];
    [parts addObject:[NSString stringWithText:at size:(size_t)(end - at)]];
    return parts;
}

@end

@implementation NSConstantString

- (id)retain {
    return self;
}

- (oneway void)release {
}

- (id)autorelease {
    return self;
}

- (NSUInteger)retainCount {
    return NSUIntegerMax;
}

@end
