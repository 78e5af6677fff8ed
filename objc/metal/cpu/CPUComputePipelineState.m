#import "CPUComputePipelineState.h"

#import "CPUSchedule.h"

@implementation CPUComputePipelineState

- (BOOL)isNative {
    return ((const cpu_code *)_kernel.code)->native != NULL;
}

@end
