// The processor as a Metal device: its name is "cpu".
//
// OB_THREADS sets the number of threads, by default one for each core that the process may use. Any thread may use it.
#import "CPUPool.h"
#import "core/OBExtensions.h"
#import "metal/base/OBMDevice.h"

@interface CPUDevice : OBMDevice <OBThreadedDevice, OBProcessorDevice> {
    cpu_pool *_pool;
    NSString *_instructionSet;  // that was asked for, or nil
}

// nil when there is no memory left; misuse if OB_THREADS is no number.
- (id)init;

// The instruction sets that a library opened now may use for kernels written by hand, best first. nil and an error if
// the one asked for is not there.
- (NSArray *)wantedInstructionSets:(NSError **)error;

@end

// For the table of devices.
OBMDevice *CPUNewDevice(void);
