#import "OBMComputeMisuse.h"

@implementation OBMComputeCommandEncoder (Misuse)

- (void)misuseOfBindingsFor:(NSString *)method {
    const char *kernel = _kernel->signature->name;
    for (uint32_t i = 0; i < _kernel->argument_count; i++) {
        uint32_t index = _kernel->arguments[i].index;
        const metallib_argument *argument = obm_kernel_argument(_kernel, METALLIB_BUFFER, index);
        if ((_table.bound >> index & 1) == 0) {
            [self misuseIn:method
                    format:@"kernel '%s': nothing is bound to '%s' at buffer index %u; call setBuffer or "
                           @"setBytes",
                           kernel, argument->name, index];
        }
        if (((uintptr_t)_table.buffers[index].address & _kernel->arguments[i].alignment_mask) != 0) {
            const obm_memory *memory = _table.buffers[index].binding.memory;
            size_t offset = memory != NULL ? (size_t)(_table.buffers[index].address - memory->address) : 0;
            [self misuseIn:method
                    format:@"kernel '%s': the offset %zu of '%s' at buffer index %u is not a multiple of its "
                           @"alignment %u",
                           kernel, offset, argument->name, index, argument->alignment];
        }
        if (_table.buffers[index].available < _kernel->arguments[i].smallest) {
            [self misuseIn:method
                    format:@"kernel '%s': '%s' at buffer index %u needs %u bytes, and %zu are bound", kernel,
                           argument->name, index, argument->size, _table.buffers[index].available];
        }
    }
    for (uint32_t index = 0; index < METALLIB_MAX_THREADGROUP; index++) {
        if ((_kernel->threadgroup & ~_table.threadgroup) >> index & 1) {
            [self misuseIn:method
                    format:@"kernel '%s': '%s' at threadgroup index %u has no memory; call "
                           @"setThreadgroupMemoryLength",
                           kernel, obm_kernel_argument(_kernel, METALLIB_THREADGROUP, index)->name, index];
        }
    }
    [self misuseIn:method
            format:@"kernel '%s': its threadgroup memory is more than the device's "
                   @"maxThreadgroupMemoryLength, which is %d",
                   kernel, OBM_MAX_THREADGROUP_MEMORY];
}

- (void)checkThreads:(MTLSize)threads for:(NSString *)method {
    [self requireOpenFor:method];
    if (_kernel == NULL) [self misuseIn:method format:@"no pipeline state is set; call setComputePipelineState first"];
    if (threads.width == 0 || threads.height == 0 || threads.depth == 0 || threads.width > _kernel->max_threads ||
        threads.height > _kernel->max_threads || threads.depth > _kernel->max_threads ||
        threads.width * threads.height * threads.depth > _kernel->max_threads) {
        [self misuseIn:method
                format:@"kernel '%s': a threadgroup of %lu x %lu x %lu threads; it takes 1 to %u, its "
                       @"maxTotalThreadsPerThreadgroup",
                       _kernel->signature->name, (unsigned long)threads.width, (unsigned long)threads.height,
                       (unsigned long)threads.depth, _kernel->max_threads];
    }
}

- (void)misuseOfGrid:(MTLSize)grid for:(NSString *)method {
    [self misuseIn:method
            format:@"kernel '%s': a grid of %lu x %lu x %lu; each must be at least 1, and all threads together "
                   @"at most 2^32 - 1",
                   _kernel->signature->name, (unsigned long)grid.width, (unsigned long)grid.height,
                   (unsigned long)grid.depth];
}

@end
