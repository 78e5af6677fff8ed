#import "OBMDispatchFaults.h"

#import "OBMBuffer.h"
#import "OBMComputePipelineState.h"
#import "OBMDevice.h"

static NSString *text(NSString *format, ...) __attribute__((format(__NSString__, 1, 2)));

static NSString *text(NSString *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    NSString *text = [[[NSString alloc] initWithFormat:format arguments:arguments] autorelease];
    va_end(arguments);
    return text;
}

NSString *OBMFaultOfBuffer(id buffer, OBMDevice *device, NSUInteger offset, NSUInteger size) {
    if (buffer == nil) return @"the buffer is nil";
    if (object_getClass(buffer) != [device bufferClass] || ((OBMBuffer *)buffer)->_device != device)
        return @"the buffer belongs to another device";
    NSUInteger length = ((OBMBuffer *)buffer)->_memory.length;
    if (offset <= length && size <= length - offset) return nil;
    return text(@"%lu bytes at offset %lu are beyond the length %lu of buffer%@", (unsigned long)size,
                (unsigned long)offset, (unsigned long)length, [buffer labelSuffix]);
}

NSString *OBMFaultOfPipelineState(id state, OBMDevice *device) {
    if (state == nil) return @"the pipeline state is nil";
    if (object_getClass(state) != [device pipelineStateClass] || ((OBMComputePipelineState *)state)->_device != device)
        return @"the pipeline state is of another device";
    return nil;
}

NSString *OBMFaultOfThreadgroupLength(NSUInteger length, NSUInteger index) {
    if (length % OBM_THREADGROUP_MULTIPLE != 0) {
        return text(@"%lu bytes at index %lu; the length must be a multiple of %d", (unsigned long)length,
                    (unsigned long)index, OBM_THREADGROUP_MULTIPLE);
    }
    if (length <= OBM_MAX_THREADGROUP_MEMORY) return nil;
    return text(@"%lu bytes at index %lu are more than maxThreadgroupMemoryLength, which is %d", (unsigned long)length,
                (unsigned long)index, OBM_MAX_THREADGROUP_MEMORY);
}

static NSString *faultOfArgument(const obm_kernel *kernel, uint32_t i, const obm_binding_table *table,
                                 NSString *setter) {
    const char *name = kernel->signature->name;
    uint32_t index = kernel->arguments[i].index;
    const metallib_argument *argument = obm_kernel_argument(kernel, METALLIB_BUFFER, index);
    if ((table->bound >> index & 1) == 0) {
        return text(@"kernel '%s': nothing is bound to '%s' at buffer index %u; call %@", name, argument->name, index,
                    setter);
    }
    const obm_bound *bound = &table->buffers[index];
    if (((uintptr_t)bound->address & kernel->arguments[i].alignment_mask) != 0) {
        const obm_memory *memory = bound->binding.memory;
        size_t offset = memory != NULL ? (size_t)(bound->address - memory->address) : 0;
        return text(@"kernel '%s': the offset %zu of '%s' at buffer index %u is not a multiple of its alignment %u",
                    name, offset, argument->name, index, argument->alignment);
    }
    if (bound->available >= kernel->arguments[i].smallest) return nil;
    return text(@"kernel '%s': '%s' at buffer index %u needs %u bytes, and %zu are bound", name, argument->name, index,
                argument->size, bound->available);
}

NSString *OBMFaultOfBindings(const obm_kernel *kernel, const obm_binding_table *table, NSString *setter) {
    for (uint32_t i = 0; i < kernel->argument_count; i++) {
        NSString *fault = faultOfArgument(kernel, i, table, setter);
        if (fault != nil) return fault;
    }
    for (uint32_t index = 0; index < METALLIB_MAX_THREADGROUP; index++) {
        if (((kernel->threadgroup & ~table->threadgroup) >> index & 1) == 0) continue;
        return text(@"kernel '%s': '%s' at threadgroup index %u has no memory; call setThreadgroupMemoryLength",
                    kernel->signature->name, obm_kernel_argument(kernel, METALLIB_THREADGROUP, index)->name, index);
    }
    return text(@"kernel '%s': its threadgroup memory is more than the device's maxThreadgroupMemoryLength, which is "
                @"%d",
                kernel->signature->name, OBM_MAX_THREADGROUP_MEMORY);
}

NSString *OBMFaultOfThreads(const obm_kernel *kernel, MTLSize threads) {
    NSUInteger most = kernel->max_threads;
    if (threads.width > 0 && threads.height > 0 && threads.depth > 0 && threads.width <= most &&
        threads.height <= most && threads.depth <= most && threads.width * threads.height * threads.depth <= most) {
        return nil;
    }
    return text(@"kernel '%s': a threadgroup of %lu x %lu x %lu threads; it takes 1 to %u, its "
                @"maxTotalThreadsPerThreadgroup",
                kernel->signature->name, (unsigned long)threads.width, (unsigned long)threads.height,
                (unsigned long)threads.depth, kernel->max_threads);
}

NSString *OBMFaultOfGrid(const obm_kernel *kernel, MTLSize grid) {
    return text(@"kernel '%s': a grid of %lu x %lu x %lu; each must be at least 1, and all threads together at most "
                @"2^32 - 1",
                kernel->signature->name, (unsigned long)grid.width, (unsigned long)grid.height,
                (unsigned long)grid.depth);
}
