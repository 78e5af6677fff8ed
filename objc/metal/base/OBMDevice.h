// A device: what all devices share. It makes everything else, and checks what it is given.
//
// Any thread may use it. Objects made from it keep it. A device is a class of its own below this one; it is entered
// into the table of metal/devices.m.
#import "OBMObject.h"
#import "OBMRecording.h"
#import "OBMMetal.h"
#import "core/OBExtensions.h"

enum { OBM_MAX_THREADS_PER_THREADGROUP = 1024 };

@interface OBMDevice : OBMObject <MTLDevice, OBConstantsDevice> {
    obm_atomic_u64 _allocated;
    NSMutableDictionary *_compilerVersions;  // command line to its --version, which keys the cache
}

// Every device says these itself. The objects of a shader library that it can open are named best first, without
// ".so"; nil and an error when there are none.
- (NSString *)name;
- (const obm_executor *)executor;
- (NSArray *)objectNames:(NSError **)error;
- (Class)bufferClass;

// And these where the shared ones do not do.
- (Class)libraryClass;
- (Class)pipelineStateClass;
- (Class)computeCommandEncoderClass;
- (NSUInteger)largestThreadgroup;

// The findings about a recording that has completed, as MTLFunctionLogs, or nil. The caller owns the array.
// Asked only of a device that writes logs.
- (BOOL)writesLogs;
- (NSArray *)newLogsOf:(const obm_recording *)recording;

- (void)addAllocatedBytes:(int64_t)bytes;
- (NSMutableDictionary *)compilerVersions;

@end
