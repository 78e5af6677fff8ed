#import "OBMArgumentEncoder.h"

#import <string.h>

#import "OBMBuffer.h"
#import "OBMDevice.h"
#import "OBMDispatchFaults.h"
#import "OBMError.h"
#import "OBMFunction.h"

@implementation OBMArgumentEncoder

- (id)initWithFunction:(OBMFunction *)function index:(NSUInteger)index {
    self = [super init];
    if (self == nil) return nil;
    _function = [function retain];
    _slots = [function slots];
    const metallib_signature *signature = &[function function]->signature;
    for (uint32_t i = 0; i < signature->argument_count; i++) {
        const metallib_argument *argument = &signature->arguments[i];
        if (argument->kind == METALLIB_BUFFER && argument->index == index) _argument = argument;
    }
    for (uint32_t i = 0; _argument != NULL && _slots != NULL && i < _slots->count; i++) {
        if (_slots->slots[i].argument == index) return self;
    }
    NSString *name = [[[function name] retain] autorelease];
    [self release];
    OBMRaise(@"newArgumentEncoderWithBufferIndex: %lu of function '%@' is no struct with members that point to memory",
             (unsigned long)index, name);
}

- (void)dealloc {
    [_buffer release];
    [_function release];
    [super dealloc];
}

- (id<MTLDevice>)device {
    return [_function device];
}
- (NSUInteger)encodedLength {
    return _argument->size;
}
- (NSUInteger)alignment {
    return _argument->alignment;
}

- (void)setArgumentBuffer:(id<MTLBuffer>)argumentBuffer offset:(NSUInteger)offset {
    NSString *fault = OBMFaultOfBuffer(argumentBuffer, (OBMDevice *)[_function device], offset, [self encodedLength]);
    if (fault != nil) OBMRaise(@"setArgumentBuffer: %@", fault);
    if (offset % [self alignment] != 0) {
        OBMRaise(@"setArgumentBuffer: the offset %lu is not a multiple of the alignment %lu", (unsigned long)offset,
                 (unsigned long)[self alignment]);
    }
    if ([argumentBuffer contents] == NULL)
        OBMRaise(@"setArgumentBuffer: the host does not see the buffer; use one in shared storage");
    [argumentBuffer retain];
    [_buffer release];
    _buffer = (OBMBuffer *)argumentBuffer;
    _start = offset;
}

- (void)setArgumentBuffer:(id<MTLBuffer>)argumentBuffer
              startOffset:(NSUInteger)startOffset
             arrayElement:(NSUInteger)arrayElement {
    [self setArgumentBuffer:argumentBuffer offset:startOffset + arrayElement * [self encodedLength]];
}

// The slot of an index, and where in the struct its value lies. A pointer where `pointer` says so, else none.
- (const metallib_slot *)slotAt:(NSUInteger)index offset:(NSUInteger *)offset pointer:(BOOL)pointer for:(NSString *)method {
    if (_buffer == nil) OBMRaise(@"%@: no argument buffer is set; call setArgumentBuffer first", method);
    for (uint32_t i = 0; i < _slots->count; i++) {
        const metallib_slot *slot = &_slots->slots[i];
        const metallib_member *member = &_argument->members[slot->member];
        if (slot->argument != _argument->index || index < slot->id || index - slot->id >= member->count) continue;
        if ((slot->size != 0) != pointer) {
            OBMRaise(@"%@: member '%s' [[id(%u)]] %s", method, member->name, slot->id,
                     pointer ? "is no pointer; write its value with constantDataAtIndex"
                             : "is a pointer; set it with setBuffer");
        }
        *offset = member->offset + (index - slot->id) * (pointer ? sizeof(uint64_t) : 0);
        return slot;
    }
    OBMRaise(@"%@: argument buffer '%s' has no member [[id(%lu)]]", method, _argument->name, (unsigned long)index);
}

- (void)setBuffer:(id<MTLBuffer>)buffer offset:(NSUInteger)offset atIndex:(NSUInteger)index {
    NSUInteger at = 0;
    const metallib_slot *slot = [self slotAt:index offset:&at pointer:YES for:@"setBuffer"];
    uint64_t address = 0;
    if (buffer != nil) {
        NSString *fault = OBMFaultOfBuffer(buffer, (OBMDevice *)[_function device], offset, 0);
        if (fault != nil) OBMRaise(@"setBuffer: %@", fault);
        if (offset % slot->alignment != 0) {
            OBMRaise(@"setBuffer: the offset %lu at index %lu is not a multiple of the alignment %u",
                     (unsigned long)offset, (unsigned long)index, slot->alignment);
        }
        address = [buffer gpuAddress] + offset;
    }
    memcpy(_buffer->_memory.bytes + _start + at, &address, sizeof address);
}

- (void)setBuffers:(const id<MTLBuffer>[])buffers offsets:(const NSUInteger[])offsets withRange:(NSRange)range {
    if ((buffers == NULL || offsets == NULL) && range.length > 0)
        OBMRaise(@"setBuffers: the arrays of buffers and offsets must not be NULL");
    for (NSUInteger i = 0; i < range.length; i++)
        [self setBuffer:buffers[i] offset:offsets[i] atIndex:range.location + i];
}

- (void *)constantDataAtIndex:(NSUInteger)index {
    NSUInteger at = 0;
    [self slotAt:index offset:&at pointer:NO for:@"constantDataAtIndex"];
    return _buffer->_memory.bytes + _start + at;
}

@end
