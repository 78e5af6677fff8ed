// A device, and the objects made from it, may answer more than Metal asks of them.
//
// This is the one list of that: the core asks with conformsToProtocol: and does without where the answer is no, as on
// Apple's devices; the stand-ins of metal/ adopt what they have. A method that refuses its argument raises, like any
// misuse of Metal, unless it takes an NSError.
#import <Foundation/Foundation.h>

@class MTLFunctionConstantValues;

// A device of which the caller may choose how many threads run kernels, or how many a threadgroup has where the device
// runs threads one by one.
@protocol OBThreadedDevice
- (void)setWorkerThreadCount:(NSUInteger)count;  // raises while command buffers are enqueued or run
- (NSUInteger)workerThreadCount;
@end

// A device whose system ends command buffers that take too long, or that is asked to act so: after how many seconds; 0:
// never.
@protocol OBWatchedDevice
- (double)longestCommandBuffer;
@end

// A command buffer that knows which of its dispatches failed: its place in their order; NSNotFound where it does not.
@protocol OBFailureLocation
- (NSUInteger)failedDispatch;
@end

// A device whose own name is not what its hardware is called.
@protocol OBHardwareDevice
- (NSString *)hardwareName;
- (NSString *)instructionSet;  // of its kernels, such as "sm_90a"
- (uint64_t)memorySize;        // bytes that it has of its own
- (NSUInteger)coreCount;       // multiprocessors of a GPU
@end

// A device that is a processor.
@protocol OBProcessorDevice
// The instruction set that libraries opened from now on use; nil: that of OB_ISA, else the processor's best. NO and an
// error when the processor does not have it.
- (BOOL)setInstructionSet:(NSString *)name error:(NSError **)error;

// The instruction set that kernels use, such as "avx2"; nil where OB_ISA names nothing that the processor has.
- (NSString *)instructionSet;
@end

// A device that tries several orders of a kernel's threads and demands one result.
@protocol OBSchedulingDevice
- (void)setScheduleCount:(NSUInteger)count;
- (NSUInteger)scheduleCount;
@end

// A device that reads the values of function constants from objects of a class of its own: Metal's does not tell what was
// set. The caller owns the object.
@protocol OBConstantsDevice
- (MTLFunctionConstantValues *)newFunctionConstantValues;
@end

// A queue that counts the command buffers committed to it.
@protocol OBCountingQueue
- (uint64_t)committedCommandBufferCount;
@end

// A pipeline state that may run a kernel written by hand for the processor in place of the compiled shader.
@protocol OBNativePipelineState
- (BOOL)isNative;
@end

// A device whose compute encoders all adopt OBMeasuringEncoder: asking each encoder would cost as much as five dispatches.
@protocol OBMeasuringDevice
@end

// A compute encoder that wants to know how much of each buffer just bound is meant, in bytes from its offset on; 0: all
// there is. A later binding at the index forgets it.
@protocol OBMeasuringEncoder
- (void)setBufferLengths:(const NSUInteger[])lengths withRange:(NSRange)range;
@end

// A function log that tells what its description says by name, each a string. CheckerFunctionLog.h lists the names.
@protocol OBDetailedLog
- (NSDictionary *)details;
@end
