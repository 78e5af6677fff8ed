#import "OBMBinaryArchive.h"

#import <errno.h>
#import <stdio.h>
#import <string.h>

#import "OBMDevice.h"
#import "OBMDigest.h"
#import "OBMError.h"
#import "OBMFunction.h"

#define FIRST_LINE @"onebuf archive 1\n"

static NSString *digestOf(NSString *text) {
    char digest[OBM_DIGEST_TEXT];
    const char *utf8 = [text UTF8String];
    obm_digest(utf8, strlen(utf8), digest);
    return [NSString stringWithUTF8String:digest];
}

// The keys in a file's text, which ends with the digest of what comes before; nil where it does not.
static NSArray *keysIn(NSString *text) {
    NSRange end = [text rangeOfString:@"\nend " options:NSBackwardsSearch];
    if (![text hasPrefix:FIRST_LINE] || end.location == NSNotFound) return nil;
    NSString *before = [text substringToIndex:end.location + 1];
    if (![[text substringFromIndex:NSMaxRange(end)] isEqualToString:digestOf(before)]) return nil;
    return [[before substringFromIndex:[FIRST_LINE length]] componentsSeparatedByString:@"\n"];
}

@implementation OBMBinaryArchive

- (id)initWithDevice:(OBMDevice *)device url:(NSURL *)url error:(NSError **)error {
    self = [super init];
    if (self == nil) return nil;
    _device = [device retain];
    _functions = [[NSMutableSet alloc] init];
    if (url == nil) return self;
    NSString *path = [url path];
    NSArray *keys = keysIn([NSString stringWithContentsOfFile:path encoding:NSUTF8StringEncoding error:NULL]);
    if (keys == nil) {
        OBMSetError(error, MTLBinaryArchiveDomain, MTLBinaryArchiveErrorInvalidFile,
                    @"%@: no archive of this version; delete it", path);
        [self release];
        return nil;
    }
    for (NSString *key in keys) {
        if ([key length] > 0) [_functions addObject:key];
    }
    return self;
}

- (void)dealloc {
    [_functions release];
    [_device release];
    [super dealloc];
}

- (id<MTLDevice>)device {
    return _device;
}

- (BOOL)hasFunction:(OBMFunction *)function {
    @synchronized(self) {
        return [_functions containsObject:[function archiveKey]];
    }
}

- (BOOL)addComputePipelineFunctionsWithDescriptor:(MTLComputePipelineDescriptor *)descriptor error:(NSError **)error {
    OBMFunction *function = (OBMFunction *)[descriptor computeFunction];
    if (function == nil || [function device] != (id<MTLDevice>)_device) {
        OBMRaise(@"addComputePipelineFunctionsWithDescriptor: archive%@ takes functions of its own device alone",
                 [self labelSuffix]);
    }
    if (![function makeReady:error]) return NO;
    @synchronized(self) {
        [_functions addObject:[function archiveKey]];
    }
    return YES;
}

- (BOOL)serializeToURL:(NSURL *)url error:(NSError **)error {
    if (url == nil || ![url isFileURL]) OBMRaise(@"serializeToURL: the URL must name a file");
    NSArray *keys;
    @synchronized(self) {
        keys = [[_functions allObjects] sortedArrayUsingSelector:@selector(compare:)];
    }
    NSString *text = [NSString stringWithFormat:@"%@%@\n", FIRST_LINE, [keys componentsJoinedByString:@"\n"]];
    text = [text stringByAppendingFormat:@"end %@", digestOf(text)];
    const char *utf8 = [text UTF8String];
    FILE *file = fopen([[url path] fileSystemRepresentation], "wb");
    BOOL written = file != NULL && fwrite(utf8, 1, strlen(utf8), file) == strlen(utf8);
    if (file != NULL && fclose(file) != 0) written = NO;
    if (!written) {
        OBMSetError(error, MTLBinaryArchiveDomain, MTLBinaryArchiveErrorInternalError, @"%@: cannot be written (%s)",
                    [url path], strerror(errno));
    }
    return written;
}

@end
