#import <Foundation/Foundation.h>

@implementation NSURL

+ (id)fileURLWithPath:(NSString *)path {
    return [[[self alloc] initFileURLWithPath:path] autorelease];
}

- (id)initFileURLWithPath:(NSString *)path {
    if (path == nil) [NSException raise:NSInvalidArgumentException format:@"fileURLWithPath: the path is nil"];
    _path = [path copy];
    return self;
}

- (void)dealloc {
    [_path release];
    [super dealloc];
}

- (id)copyWithZone:(NSZone *)zone {
    (void)zone;
    return [self retain];
}

- (NSString *)path {
    return _path;
}

- (BOOL)isFileURL {
    return YES;
}

- (NSString *)description {
    return [@"file://" stringByAppendingString:_path];
}

@end
