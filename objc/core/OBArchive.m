#import "OBArchive.h"
#import "OBError.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

@implementation OBArchive

+ (BOOL)isForDevice:(id<MTLDevice>)device {
    return [device respondsToSelector:@selector(newBinaryArchiveWithDescriptor:error:)];
}

// Opens the archive of a file, or an empty one where `path` is nil. Returns nil where the system makes none.
static id<MTLBinaryArchive> newArchive(id<MTLDevice> device, NSString *path) {
    MTLBinaryArchiveDescriptor *descriptor = [[MTLBinaryArchiveDescriptor alloc] init];
    id<MTLBinaryArchive> archive = nil;
    @try {
        if (path != nil) [descriptor setUrl:[NSURL fileURLWithPath:path]];
        archive = [device newBinaryArchiveWithDescriptor:descriptor error:NULL];
    } @catch (NSException *exception) {  // whatever it says of the file
        archive = nil;
    }
    [descriptor release];
    return archive;
}

+ (OBArchive *)archiveWithDevice:(id<MTLDevice>)device path:(NSString *)path {
    if (![self isForDevice:device]) return nil;
    OBArchive *result = [[[OBArchive alloc] init] autorelease];
    if (result == nil) return nil;
    result->_device = [device retain];
    result->_path = [path copy];
    result->_lock = [[NSLock alloc] init];
    if (access([path fileSystemRepresentation], R_OK) == 0) result->_archive = newArchive(device, path);
    if (result->_archive == nil) result->_archive = newArchive(device, nil);
    return result->_archive != nil && result->_lock != nil ? result : nil;
}

- (void)dealloc {
    [_archive release];
    [_path release];
    [_lock release];
    [_device release];
    [super dealloc];
}

- (NSUInteger)found {
    return _found;
}
- (NSUInteger)compiled {
    return _compiled;
}

// The pipeline state that the archive has of the function; nil where it has none.
- (id<MTLComputePipelineState>)newFoundState:(MTLComputePipelineDescriptor *)descriptor
                                     options:(MTLPipelineOption)options
                                  reflection:(MTLAutoreleasedComputePipelineReflection *)reflection {
    @try {
        return [_device newComputePipelineStateWithDescriptor:descriptor
                                                      options:options | MTLPipelineOptionFailOnBinaryArchiveMiss
                                                   reflection:reflection
                                                        error:NULL];
    } @catch (NSException *exception) {
        return nil;
    }
}

// Compiles the function into the archive, from which its state is then made without compiling it again.
- (BOOL)add:(MTLComputePipelineDescriptor *)descriptor {
    @try {
        return [_archive addComputePipelineFunctionsWithDescriptor:descriptor error:NULL];
    } @catch (NSException *exception) {
        return NO;
    }
}

- (id<MTLComputePipelineState>)newStateWithFunction:(id<MTLFunction>)function
                                            options:(MTLPipelineOption)options
                                         reflection:(MTLAutoreleasedComputePipelineReflection *)reflection
                                              error:(NSError **)error {
    MTLComputePipelineDescriptor *descriptor = [[[MTLComputePipelineDescriptor alloc] init] autorelease];
    [descriptor setComputeFunction:function];
    [descriptor setBinaryArchives:[NSArray arrayWithObject:_archive]];
    id<MTLComputePipelineState> state;
    [_lock lock];
    @try {
        state = [self newFoundState:descriptor options:options reflection:reflection];
        if (state != nil) {
            _found++;
        } else {
            _compiled++;
            if ([self add:descriptor]) _added = YES;
            else [descriptor setBinaryArchives:nil];
        }
    } @finally {
        [_lock unlock];
    }
    if (state != nil) return state;
    return [_device newComputePipelineStateWithDescriptor:descriptor options:options reflection:reflection error:error];
}

// Writes another file, which takes the place of the first when it is whole.
- (BOOL)write:(NSError **)error {
    NSString *other = [NSString stringWithFormat:@"%@.%d", _path, (int)getpid()];
    const char *from = [other fileSystemRepresentation], *to = [_path fileSystemRepresentation];
    NSError *cause = nil;
    BOOL written = NO;
    @try {
        written = [_archive serializeToURL:[NSURL fileURLWithPath:other] error:&cause];
    } @catch (NSException *exception) {
        OBFail(&cause, OBErrorDevice, @"%@", [exception reason]);
    }
    if (!written) OBFail(error, OBErrorDevice, @"%@: not written: %@", _path, [cause localizedDescription]);
    if (written && rename(from, to) == 0) return YES;
    if (written) OBFail(error, OBErrorDevice, @"%@: not written: %s", _path, strerror(errno));
    unlink(from);
    return NO;
}

- (BOOL)save:(NSError **)error {
    [_lock lock];
    BOOL saved = YES;
    @try {
        if (_added) saved = [self write:error];
        if (saved) _added = NO;
    } @finally {
        [_lock unlock];
    }
    return saved;
}

@end
