#import <Foundation/Foundation.h>

#import "OBFMemory.h"

@implementation NSData

+ (id)data {
    return [[[self alloc] init] autorelease];
}

+ (id)dataWithBytes:(const void *)bytes length:(NSUInteger)length {
    return [[[self alloc] initWithBytes:bytes length:length] autorelease];
}

+ (id)dataWithBytesNoCopy:(void *)bytes length:(NSUInteger)length freeWhenDone:(BOOL)frees {
    return [[[self alloc] initWithBytesNoCopy:bytes length:length freeWhenDone:frees] autorelease];
}

+ (id)dataWithContentsOfFile:(NSString *)path {
    FILE *file = path == nil ? NULL : fopen([path fileSystemRepresentation], "rbe");
    if (file == NULL) return nil;
    NSMutableData *read = nil;
    BOOL failed;
    @try {
        read = [NSMutableData data];
        char bytes[16384];
        for (size_t count; (count = fread(bytes, 1, sizeof bytes, file)) > 0;) [read appendBytes:bytes length:count];
    } @finally {
        failed = ferror(file) != 0;
        fclose(file);
    }
    return failed ? nil : read;
}

- (id)initWithBytes:(const void *)bytes length:(NSUInteger)length {
    @try {
        _bytes = obf_zeroed(length, 1);
    } @catch (NSException *exception) {
        [self release];
        @throw;
    }
    if (length > 0) memcpy(_bytes, bytes, length);
    _length = length;
    return self;
}

- (id)initWithBytesNoCopy:(void *)bytes length:(NSUInteger)length freeWhenDone:(BOOL)frees {
    _bytes = bytes;
    _length = length;
    _keeps = !frees;
    return self;
}

- (void)dealloc {
    if (!_keeps) free(_bytes);
    [super dealloc];
}

- (id)copyWithZone:(NSZone *)zone {
    (void)zone;
    return [self retain];
}

- (const void *)bytes {
    return _bytes;
}

- (NSUInteger)length {
    return _length;
}

- (BOOL)isEqualToData:(NSData *)other {
    return [other length] == _length && (_length == 0 || memcmp([other bytes], _bytes, _length) == 0);
}

- (BOOL)isEqual:(id)other {
    return [other isKindOfClass:[NSData class]] && [self isEqualToData:other];
}

- (NSUInteger)hash {
    return _length;
}

@end

@implementation NSMutableData

+ (id)dataWithLength:(NSUInteger)length {
    return [[[self alloc] initWithLength:length] autorelease];
}

- (id)initWithLength:(NSUInteger)length {
    @try {
        _bytes = obf_zeroed(length, 1);
    } @catch (NSException *exception) {
        [self release];
        @throw;
    }
    _length = _room = length;
    return self;
}

- (id)copyWithZone:(NSZone *)zone {
    (void)zone;
    return [[NSData alloc] initWithBytes:_bytes length:_length];
}

- (void *)mutableBytes {
    return _bytes;
}

- (void)appendBytes:(const void *)bytes length:(NSUInteger)length {
    if (length > _room - _length || _bytes == NULL) {
        if (length > NSIntegerMax - _length) obf_raise_no_memory();
        NSUInteger room = obf_room(_room, _length + length);
        _bytes = obf_resized(_bytes, room, 1);
        _room = room;
    }
    memcpy((char *)_bytes + _length, bytes, length);
    _length += length;
}

@end
