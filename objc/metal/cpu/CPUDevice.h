// The processor as a Metal device: its name is "cpu".
//
// OB_THREADS sets the number of threads, by default one for each core that the process may use.
#import "metal/base/OBMObject.h"
#import "CPUPool.h"
#import "metal/api/MTLDevice.h"

@interface CPUDevice : OBMObject <MTLDevice> {
    cpu_pool *_pool;
    obm_atomic_u64 _allocated;
    NSMutableDictionary *_compilerVersions;  // command line to its --version, which keys the cache
}

// nil when there is no memory left; misuse if OB_THREADS is no number.
- (id)init;

// What a kind of device may do in its own way: the names of the shared objects that it runs, the best
// first, or nil and an error; its buffers and encoders; and what it does to a library just opened.
- (NSArray *)instructionSets:(NSError **)error;
- (Class)bufferClass;
- (Class)computeCommandEncoderClass;
- (void)prepareLibrary:(void *)handle;
- (NSUInteger)largestThreadgroup;
- (BOOL)watchesKernels;
- (NSArray *)newLogsOf:(const void *)job;

// The instruction set that its kernels use, or nil.
- (NSString *)instructionSet;

- (cpu_pool *)pool;
- (void)addAllocatedBytes:(int64_t)bytes;
- (NSMutableDictionary *)compilerVersions;

// The number of threads that run kernels, 1 to CPU_POOL_MAX_THREADS. Misuse while a command buffer
// is enqueued or runs.
- (void)setWorkerThreadCount:(NSUInteger)count;
- (NSUInteger)workerThreadCount;

@end
