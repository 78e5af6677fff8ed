#import "OBStructArguments.h"
#import "OBDevice.h"
#import "OBError.h"

// Metal asks offsets in the constant space to be a multiple of 256 on some devices.
enum { structAlignment = 256 };

@interface OBStructArguments ()
- (BOOL)place:(const ob_dispatch *)dispatches count:(NSUInteger)count error:(NSError **)error;
- (void)fill:(const ob_dispatch *)dispatches count:(NSUInteger)count;
- (id<MTLBuffer>)keptForRows:(NSUInteger)rows;
- (void)keep:(id<MTLBuffer>)buffer forRows:(NSUInteger)rows;
@end

@implementation OBStructArguments

+ (OBStructArguments *)argumentsWithDevice:(OBDevice *)device
                                dispatches:(const ob_dispatch *)dispatches
                                     count:(NSUInteger)count
                                     error:(NSError **)error {
    OBStructArguments *arguments = [[[OBStructArguments alloc] init] autorelease];
    if (arguments != nil) {
        arguments->_device = [device retain];
        arguments->_lock = [[NSLock alloc] init];
        arguments->_offsets = calloc(count, sizeof(NSUInteger));
        arguments->_members = calloc(count, sizeof(NSUInteger));
    }
    if (arguments == nil || arguments->_lock == nil || arguments->_offsets == NULL || arguments->_members == NULL) {
        return OBFail(error, OBErrorMemory, @"no memory for the struct arguments of %llu dispatches",
                      (unsigned long long)count);
    }
    if (![arguments place:dispatches count:count error:error]) return nil;
    [arguments fill:dispatches count:count];
    return arguments;
}

- (void)dealloc {
    for (NSUInteger i = 0; i < OB_KEPT_ARGUMENTS; i++) [_kept[i].buffer release];
    [_all release];
    free(_offsets);
    free(_members);
    [_lock release];
    [_device release];
    [super dealloc];
}

- (NSUInteger)offsetOfDispatch:(NSUInteger)index {
    return _offsets[index];
}
- (id<MTLBuffer>)bufferForAllRows {
    return _all;
}

// Where the rows_member is in the struct, or NSNotFound.
static NSUInteger offsetOfRows(const ob_dispatch *dispatch) {
    if (dispatch->rows_member == NULL || dispatch->bytes == NULL) return NSNotFound;
    OBKernel *kernel = (OBKernel *)dispatch->kernel;
    for (NSUInteger i = 0; i < [kernel argumentCount]; i++) {
        const OBArgument *argument = [kernel argumentAtIndex:i];
        if (argument->threadgroup || argument->index != dispatch->bytes_slot) continue;
        for (NSUInteger j = 0; j < [kernel memberCountOfArgument:i]; j++) {
            OBMember member = [kernel member:j ofArgument:i];
            if (member.type == MTLDataTypeUInt && strcmp([member.name UTF8String], dispatch->rows_member) == 0)
                return member.offset;
        }
    }
    return NSNotFound;
}

// Lays the structs out one after another and makes the buffer.
- (BOOL)place:(const ob_dispatch *)dispatches count:(NSUInteger)count error:(NSError **)error {
    NSUInteger length = 0;
    for (NSUInteger i = 0; i < count; i++) {
        const ob_dispatch *dispatch = &dispatches[i];
        NSUInteger member = offsetOfRows(dispatch);
        if (dispatch->rows_member != NULL && member == NSNotFound) {
            OBFail(error, OBErrorArgument,
                   @"%@ (%@): its struct argument has no member '%s' of type uint for the rows of a run",
                   OBLabelOfDispatch(dispatch), [(OBKernel *)dispatch->kernel name], dispatch->rows_member);
            return NO;
        }
        if (dispatch->bytes == NULL) continue;
        if (member != NSNotFound) _members[_memberCount++] = length + member;
        _offsets[i] = length;
        length += (dispatch->byte_count + structAlignment - 1) / structAlignment * structAlignment;
    }
    if (length > 0) _all = [_device newBufferWithLength:length error:error];
    return length == 0 || _all != nil;
}

- (void)fill:(const ob_dispatch *)dispatches count:(NSUInteger)count {
    char *all = [_all contents];
    for (NSUInteger i = 0; i < count; i++) {
        if (dispatches[i].bytes == NULL) continue;
        memcpy(all + _offsets[i], dispatches[i].bytes, dispatches[i].byte_count);
    }
    for (NSUInteger i = 0; i < _memberCount; i++) {
        uint32_t rows;
        memcpy(&rows, all + _members[i], sizeof rows);
        if (rows > _rows) _rows = rows;
    }
}

- (id<MTLBuffer>)bufferForRows:(NSUInteger)rows error:(NSError **)error {
    if (rows == 0 || rows >= _rows) return _all;
    id<MTLBuffer> buffer = [self keptForRows:rows];
    if (buffer != nil) return buffer;
    buffer = [[_device newBufferWithLength:[_all length] error:error] autorelease];
    if (buffer == nil) return nil;
    char *contents = [buffer contents];
    memcpy(contents, [_all contents], [_all length]);
    for (NSUInteger i = 0; i < _memberCount; i++) {
        uint32_t most, fewer = (uint32_t)rows;
        memcpy(&most, contents + _members[i], sizeof most);
        if (fewer < most) memcpy(contents + _members[i], &fewer, sizeof fewer);
    }
    [self keep:buffer forRows:rows];
    return buffer;
}

- (id<MTLBuffer>)keptForRows:(NSUInteger)rows {
    id<MTLBuffer> found = nil;
    [_lock lock];
    for (NSUInteger i = 0; i < OB_KEPT_ARGUMENTS && found == nil; i++) {
        if (_kept[i].rows != rows) continue;
        _kept[i].used = ++_uses;
        found = [_kept[i].buffer retain];  // before another thread may drop it
    }
    [_lock unlock];
    return [found autorelease];
}

// In place of what was used longest ago. Two threads may both have made it; then both are kept.
- (void)keep:(id<MTLBuffer>)buffer forRows:(NSUInteger)rows {
    [_lock lock];
    OBKeptArguments *oldest = &_kept[0];
    for (NSUInteger i = 1; i < OB_KEPT_ARGUMENTS; i++) {
        if (_kept[i].used < oldest->used) oldest = &_kept[i];
    }
    id<MTLBuffer> dropped = oldest->buffer;
    *oldest = (OBKeptArguments){rows, ++_uses, [buffer retain]};
    [_lock unlock];
    [dropped release];
}

@end
