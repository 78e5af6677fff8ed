#import "MTLBinaryArchive.h"

NSErrorDomain const MTLBinaryArchiveDomain = @"MTLBinaryArchiveDomain";

@implementation MTLBinaryArchiveDescriptor

- (void)dealloc {
    [_url release];
    [super dealloc];
}

- (id)copyWithZone:(NSZone *)zone {
    MTLBinaryArchiveDescriptor *copy = [[MTLBinaryArchiveDescriptor allocWithZone:zone] init];
    [copy setUrl:_url];
    return copy;
}

- (NSURL *)url {
    return _url;
}

- (void)setUrl:(NSURL *)url {
    NSURL *copy = [url copy];
    [_url release];
    _url = copy;
}

@end
