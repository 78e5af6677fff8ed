#import <Foundation/Foundation.h>

#import "OBFString.h"

// Without the slashes at its end, unless it is the root.
static size_t trimmed(const char *path, size_t size) {
    while (size > 1 && path[size - 1] == '/') size--;
    return size;
}

// Where the last name of a path starts.
static size_t nameOf(const char *path, size_t size) {
    while (size > 0 && path[size - 1] != '/') size--;
    return size;
}

// Where the last name's dot is; `size` where it has none. A name that starts with its only dot has no extension.
static size_t dotOf(const char *path, size_t size) {
    for (size_t first = nameOf(path, size), at = size; at > first + 1; at--)
        if (path[at - 1] == '.') return at - 1;
    return size;
}

@implementation NSString (Paths)

- (NSString *)lastPathComponent {
    size_t size = trimmed(_bytes, _size), first = size == 1 ? 0 : nameOf(_bytes, size);
    return [NSString stringWithText:_bytes + first size:size - first];
}

- (NSString *)pathExtension {
    size_t size = trimmed(_bytes, _size), dot = dotOf(_bytes, size);
    return dot == size ? @"" : [NSString stringWithText:_bytes + dot + 1 size:size - dot - 1];
}

- (NSString *)stringByAppendingPathComponent:(NSString *)name {
    size_t size = trimmed(_bytes, _size), first = 0;
    while (name->_bytes[first] == '/') first++;
    NSString *added = [NSString stringWithText:name->_bytes + first
                                          size:trimmed(name->_bytes + first, name->_size - first)];
    if (size == 0) return first == 0 ? added : [@"/" stringByAppendingString:added];
    NSString *folder = [NSString stringWithText:_bytes size:size];
    return [NSString stringWithFormat:_bytes[size - 1] == '/' ? @"%@%@" : @"%@/%@", folder, added];
}

- (NSString *)stringByDeletingLastPathComponent {
    size_t size = nameOf(_bytes, trimmed(_bytes, _size));
    return [NSString stringWithText:_bytes size:trimmed(_bytes, size)];
}

- (NSString *)stringByDeletingPathExtension {
    size_t size = trimmed(_bytes, _size);
    return [NSString stringWithText:_bytes size:dotOf(_bytes, size)];
}

@end
