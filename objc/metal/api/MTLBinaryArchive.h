// Compiled kernels in a file.
#import "MTLDefines.h"

@class MTLComputePipelineDescriptor;
@protocol MTLDevice;

MTL_EXTERN NSErrorDomain const MTLBinaryArchiveDomain;

typedef NS_ENUM(NSUInteger, MTLBinaryArchiveError) {
    MTLBinaryArchiveErrorNone = 0,
    MTLBinaryArchiveErrorInvalidFile = 1,
    MTLBinaryArchiveErrorUnexpectedElement = 2,
    MTLBinaryArchiveErrorCompilationFailure = 3,
    MTLBinaryArchiveErrorInternalError = 4,
};

@interface MTLBinaryArchiveDescriptor : NSObject <NSCopying> {
    NSURL *_url;
}

@property(readwrite, nonatomic, copy) NSURL *url;  // nil: an empty archive

@end

@protocol MTLBinaryArchive <NSObject>

@property(copy, atomic) NSString *label;
@property(readonly) id<MTLDevice> device;

// Compiles the function of a pipeline state. What is there already is not compiled again.
- (BOOL)addComputePipelineFunctionsWithDescriptor:(MTLComputePipelineDescriptor *)descriptor error:(NSError **)error;

- (BOOL)serializeToURL:(NSURL *)url error:(NSError **)error;

@end
