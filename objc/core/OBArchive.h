// Compiled kernels in a file, so that the next start of a program need not compile them: MTLBinaryArchive, which a device
// may have or not.
//
// No trouble with it is an error: a file that is missing, damaged, of another version or not to be written means that
// kernels are compiled, as without one. Safe from any thread.
#import "OBMetal.h"

@interface OBArchive : NSObject {
    id<MTLDevice> _device;
    id<MTLBinaryArchive> _archive;
    NSString *_path;
    NSLock *_lock;
    BOOL _added;  // something that the file lacks
    NSUInteger _found, _compiled;
}

// Whether a device has archives.
+ (BOOL)isForDevice:(id<MTLDevice>)device;

// Autoreleased. The file need not exist. nil where the device has no archives or there is no memory.
+ (OBArchive *)archiveWithDevice:(id<MTLDevice>)device path:(NSString *)path;

// The pipeline state of a function, from the archive, or else compiled and added to it. The caller owns it. nil and an
// error where it does not compile.
- (id<MTLComputePipelineState>)newStateWithFunction:(id<MTLFunction>)function
                                            options:(MTLPipelineOption)options
                                         reflection:(MTLAutoreleasedComputePipelineReflection *)reflection
                                              error:(NSError **)error;

// Writes the file, unless it has everything. NO and an error where it cannot be written; nothing has changed then.
- (BOOL)save:(NSError **)error;

// Pipeline states so far that were in the archive, and that were not.
@property(readonly) NSUInteger found;
@property(readonly) NSUInteger compiled;

@end
