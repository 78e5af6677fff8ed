// A device: what all devices share. It makes everything else, and checks what it is given.
//
// Any thread may use it. Objects made from it keep it. A device is a class of its own below this one; it is entered
// into the table of metal/devices.m.
#import "OBMObject.h"
#import "OBMRecording.h"
#import "OBMMetal.h"
#import "core/OBExtensions.h"

enum { OBM_MAX_THREADS_PER_THREADGROUP = 1024 };
#define OBM_SECONDS_PER_THREADGROUP 1e-6  // where command buffers are watched

@interface OBMDevice : OBMObject <MTLDevice, OBConstantsDevice, OBWatchedDevice> {
    obm_atomic_u64 _allocated;
    uint64_t _mostThreadgroups;              // of a command buffer; UINT64_MAX: any number
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

// OB_LIMITS may name a number of threadgroups, after which a command buffer fails as one that took too long on a GPU. Its
// times are then of a clock that each threadgroup advances by a microsecond, so that they are the same in each run.
- (BOOL)watchesCommandBuffers;
- (uint64_t)mostThreadgroups;

// The devices have all of this API that macOS 14 and older have not, or that makes no difference to them, only where
// OB_LIMITS says of which macOS they are to be: binary archives from 11 on, residency sets from 15 on.
- (BOOL)respondsToSelector:(SEL)selector;

- (void)addAllocatedBytes:(int64_t)bytes;
- (NSMutableDictionary *)compilerVersions;

@end
