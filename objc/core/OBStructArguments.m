#import "OBStructArguments.h"
#import "OBDevice.h"
#import "OBError.h"

// Metal asks offsets in the constant space to be a multiple of 256 on some devices.
enum { constantsAlignment = 256 };

@interface OBStructArguments ()
- (BOOL)place:(const OBDispatch *)dispatches count:(NSUInteger)count error:(NSError **)error;
- (void)fill:(const OBDispatch *)dispatches count:(NSUInteger)count;
- (id<MTLBuffer>)keptForRows:(NSUInteger)rows;
- (void)keep:(id<MTLBuffer>)buffer forRows:(NSUInteger)rows;
@end

@implementation OBStructArguments

+ (OBStructArguments *)constantsWithDevice:(OBDevice *)device
                          dispatches:(const OBDispatch *)dispatches
                               count:(NSUInteger)count
                               error:(NSError **)error {
    OBStructArguments *constants = [[[OBStructArguments alloc] init] autorelease];
    constants->_device = [device retain];
    constants->_lock = [[NSLock alloc] init];
    constants->_offsets = calloc(count, sizeof(NSUInteger));
    constants->_members = calloc(count, sizeof(NSUInteger));
    if (constants->_offsets == NULL || constants->_members == NULL) {
        return OBFail(error, OBErrorMemory, @"no memory for the struct arguments of %llu dispatches",
                      (unsigned long long)count);
    }
    if (![constants place:dispatches count:count error:error]) return nil;
    [constants fill:dispatches count:count];
    return constants;
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

- (NSUInteger)offsetOfDispatch:(NSUInteger)index { return _offsets[index]; }
- (id<MTLBuffer>)bufferForAllRows { return _all; }

// Of the rowsMember in the struct, or NSNotFound.
static NSUInteger offsetOfRows(const OBDispatch *dispatch) {
    OBKernel *kernel = dispatch->kernel;
    for (NSUInteger i = 0; dispatch->bytes != NULL && i < [kernel argumentCount]; i++) {
        const OBArgument *argument = [kernel argumentAtIndex:i];
        if (argument->threadgroup || argument->index != dispatch->bytesSlot) continue;
        for (NSUInteger j = 0; j < [kernel memberCountOfArgument:i]; j++) {
            OBMember member = [kernel member:j ofArgument:i];
            if (member.type == MTLDataTypeUInt && [member.name isEqualToString:dispatch->rowsMember]) return member.offset;
        }
    }
    return NSNotFound;
}

// Lays the structs out one after another and makes the buffer.
- (BOOL)place:(const OBDispatch *)dispatches count:(NSUInteger)count error:(NSError **)error {
    NSUInteger length = 0;
    for (NSUInteger i = 0; i < count; i++) {
        const OBDispatch *dispatch = &dispatches[i];
        NSUInteger member = offsetOfRows(dispatch);
        if (dispatch->rowsMember != nil && member == NSNotFound) {
            OBFail(error, OBErrorArgument, @"%@ (%@): its struct argument has no member '%@' of type uint for the rows of a run",
                   dispatch->label, [dispatch->kernel name], dispatch->rowsMember);
            return NO;
        }
        if (dispatch->bytes == NULL) continue;
        if (member != NSNotFound) _members[_memberCount++] = length + member;
        _offsets[i] = length;
        length += (dispatch->byteCount + constantsAlignment - 1) / constantsAlignment * constantsAlignment;
    }
    if (length > 0) _all = [_device newBufferWithLength:length error:error];
    return length == 0 || _all != nil;
}

- (void)fill:(const OBDispatch *)dispatches count:(NSUInteger)count {
    char *all = [_all contents];
    for (NSUInteger i = 0; i < count; i++) {
        if (dispatches[i].bytes == NULL) continue;
        memcpy(all + _offsets[i], dispatches[i].bytes, dispatches[i].byteCount);
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
