#import "OBDispatch.h"
#import "OBError.h"

NSString *OBLabelOfDispatch(const ob_dispatch *dispatch) {
    NSString *label = dispatch->label != NULL ? [NSString stringWithUTF8String:dispatch->label] : nil;
    return label != nil ? label : @"";
}

// NO, with the fault as an error that names the dispatch; YES without a fault.
static BOOL refuse(const ob_dispatch *dispatch, NSString *between, NSString *fault, NSError **error) {
    if (fault == nil) return YES;
    OBFail(error, OBErrorArgument, @"%@ (%@)%@%@", OBLabelOfDispatch(dispatch), [(OBKernel *)dispatch->kernel name],
           between, fault);
    return NO;
}

static MTLSize sizeFrom(const uint32_t *three) { return MTLSizeMake(three[0], three[1], three[2]); }

static BOOL isEmpty(MTLSize size) { return size.width == 0 || size.height == 0 || size.depth == 0; }

static NSString *faultOfSizes(const OBDispatch *laidOut) {
    MTLSize threads = laidOut->threads;
    NSUInteger most = [laidOut->state maxTotalThreadsPerThreadgroup];
    if (isEmpty(laidOut->grid.width > 0 ? laidOut->grid : laidOut->threadgroups)) return @"an empty grid";
    if (!isEmpty(threads) && threads.width <= most && threads.height <= most && threads.depth <= most &&
        threads.width * threads.height * threads.depth <= most) {
        return nil;
    }
    return [NSString stringWithFormat:@"a threadgroup of %llu x %llu x %llu threads; it has 1 to %llu",
                                      (unsigned long long)threads.width, (unsigned long long)threads.height,
                                      (unsigned long long)threads.depth, (unsigned long long)most];
}

static NSString *layOutThreadgroupMemory(OBDispatch *laidOut, const ob_dispatch *dispatch) {
    OBKernel *kernel = laidOut->kernel;
    for (uint32_t i = 0; i < dispatch->threadgroup_memory_count && i < OB_MAX_BINDINGS; i++) {
        laidOut->threadgroupMemory[i] = dispatch->threadgroup_memory[i];
    }
    for (NSUInteger i = 0; i < [kernel argumentCount]; i++) {
        const OBArgument *argument = [kernel argumentAtIndex:i];
        if (!argument->threadgroup) continue;
        NSUInteger length = laidOut->threadgroupMemory[argument->index];
        if (argument->index >= laidOut->memorySlots) laidOut->memorySlots = argument->index + 1;
        if (length > 0 && length % 16 == 0) continue;
        return
            [NSString stringWithFormat:@"argument '%s' (threadgroup %llu) is given %llu bytes; give a multiple of 16",
                                       argument->name, (unsigned long long)argument->index, (unsigned long long)length];
    }
    return nil;
}

static const OBArgument *argumentAt(const ob_dispatch *dispatch, uint32_t slot) {
    return slot < OB_MAX_BINDINGS ? [(OBKernel *)dispatch->kernel bufferArgumentAtSlot:slot] : NULL;
}

static NSString *faultOfBinding(const ob_dispatch *dispatch, const ob_binding *binding) {
    const OBArgument *argument = argumentAt(dispatch, binding->slot);
    NSUInteger whole = [(id<MTLBuffer>)binding->buffer length];
    if (argument == NULL)
        return [NSString stringWithFormat:@"has no buffer argument %lu", (unsigned long)binding->slot];
    if (binding->length == 0 || binding->offset > whole || binding->length > whole - binding->offset) {
        return [NSString stringWithFormat:@"argument '%s': bytes %llu + %llu are not within a buffer of %llu",
                                          argument->name, (unsigned long long)binding->offset,
                                          (unsigned long long)binding->length, (unsigned long long)whole];
    }
    if (argument->alignment == 0 || binding->offset % argument->alignment == 0) return nil;
    return [NSString stringWithFormat:@"argument '%s': offset %llu is not a multiple of %llu", argument->name,
                                      (unsigned long long)binding->offset, (unsigned long long)argument->alignment];
}

static NSString *faultOfStruct(const ob_dispatch *dispatch) {
    const OBArgument *argument = argumentAt(dispatch, dispatch->bytes_slot);
    if (argument == NULL)
        return [NSString stringWithFormat:@"has no buffer argument %lu", (unsigned long)dispatch->bytes_slot];
    if (argument->writes) {
        return [NSString stringWithFormat:@"argument '%s' is written; give it a buffer, not bytes", argument->name];
    }
    if (dispatch->byte_count >= argument->size) return nil;
    return [NSString stringWithFormat:@"argument '%s': %llu bytes are given, it takes %llu", argument->name,
                                      (unsigned long long)dispatch->byte_count, (unsigned long long)argument->size];
}

static NSString *faultOfIndirect(const ob_dispatch *dispatch) {
    NSUInteger length = [(id<MTLBuffer>)dispatch->indirect length];
    if (dispatch->indirect == NULL) return nil;
    if (dispatch->grid[0] != 0 || dispatch->rows_per_threadgroup != 0)
        return @"counts of threadgroups in memory leave no room for a grid or for rows";
    if (dispatch->indirect_offset % sizeof(uint32_t) == 0 && length >= OB_COUNTS_BYTES &&
        dispatch->indirect_offset <= length - OB_COUNTS_BYTES) {
        return nil;
    }
    return [NSString stringWithFormat:@"three counts of threadgroups at offset %llu are not within a buffer of %llu "
                                      @"bytes, at a multiple of 4",
                                      (unsigned long long)dispatch->indirect_offset, (unsigned long long)length];
}

BOOL OBLayOutDispatch(OBDispatch *laidOut, const ob_dispatch *dispatch, NSError **error) {
    OBKernel *kernel = (OBKernel *)dispatch->kernel;
    *laidOut = (OBDispatch){.kernel = kernel,
                            .state = [kernel state],
                            .structSlot = NSNotFound,
                            .threadgroups = sizeFrom(dispatch->threadgroups),
                            .threads = sizeFrom(dispatch->threads),
                            .grid = sizeFrom(dispatch->grid),
                            .indirect = (id<MTLBuffer>)dispatch->indirect,
                            .indirectOffset = (NSUInteger)dispatch->indirect_offset,
                            .rowsPerThreadgroup = dispatch->rows_per_threadgroup,
                            .leading = dispatch->leading != 0,
                            .conflict = -1};
    if (laidOut->threads.width == 0) laidOut->threads = MTLSizeMake([kernel threadsPerThreadgroup], 1, 1);
    if (!refuse(dispatch, @": ", faultOfSizes(laidOut), error)) return NO;
    if (!refuse(dispatch, @": ", faultOfIndirect(dispatch), error)) return NO;
    if (!refuse(dispatch, @": ", layOutThreadgroupMemory(laidOut, dispatch), error)) return NO;
    for (uint32_t i = 0; i < dispatch->binding_count; i++) {
        const ob_binding *binding = &dispatch->bindings[i];
        if (!refuse(dispatch, @" ", faultOfBinding(dispatch, binding), error)) return NO;
        laidOut->buffers[binding->slot] = (id<MTLBuffer>)binding->buffer;
        laidOut->offsets[binding->slot] = (NSUInteger)binding->offset;
        laidOut->lengths[binding->slot] = (NSUInteger)binding->length;
        if (binding->slot >= laidOut->slots) laidOut->slots = binding->slot + 1;
    }
    return dispatch->bytes == NULL || refuse(dispatch, @" ", faultOfStruct(dispatch), error);
}

NSUInteger OBRowsOfRun(BOOL leading, ob_rows rows) { return leading && rows.leading > 0 ? rows.leading : rows.all; }

MTLSize OBThreadgroupsForRows(const OBDispatch *dispatch, ob_rows run) {
    MTLSize size = dispatch->threadgroups;
    NSUInteger rows = OBRowsOfRun(dispatch->leading, run);
    if (rows == 0 || dispatch->rowsPerThreadgroup == 0) return size;
    NSUInteger tiles = (rows + dispatch->rowsPerThreadgroup - 1) / dispatch->rowsPerThreadgroup;
    if (tiles < size.height) size.height = tiles;
    return size;
}

NSUInteger OBRowsOfDispatch(const OBDispatch *dispatch) {
    return dispatch->grid.width > 0 ? 0 : dispatch->threadgroups.height * dispatch->rowsPerThreadgroup;
}

BOOL OBCheckComplete(const OBDispatch *laidOut, NSString *label, NSError **error) {
    for (NSUInteger i = 0; i < [laidOut->kernel argumentCount]; i++) {
        const OBArgument *argument = [laidOut->kernel argumentAtIndex:i];
        if (argument->threadgroup || laidOut->buffers[argument->index] != nil) continue;
        OBFail(error, OBErrorArgument, @"%@ (%@): argument '%s' (buffer %llu) is not bound", label,
               [laidOut->kernel name], argument->name, (unsigned long long)argument->index);
        return NO;
    }
    return YES;
}
