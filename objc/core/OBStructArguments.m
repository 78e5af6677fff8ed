#import "OBStructArguments.h"
#import "OBDevice.h"
#import "OBError.h"

// Metal asks offsets in the constant space to be a multiple of 256 on some devices.
enum { structAlignment = 256 };

@interface OBStructArguments ()
- (BOOL)place:(const ob_dispatch *)dispatches count:(NSUInteger)count error:(NSError **)error;
- (void)fill:(const ob_dispatch *)dispatches count:(NSUInteger)count;
@end

@implementation OBStructArguments

+ (OBStructArguments *)argumentsWithDevice:(OBDevice *)device
                                dispatches:(const ob_dispatch *)dispatches
                                     count:(NSUInteger)count
                                     error:(NSError **)error {
    OBStructArguments *arguments = [[[OBStructArguments alloc] init] autorelease];
    arguments->_device = [device retain];
    arguments->_offsets = calloc(count, sizeof(NSUInteger));
    arguments->_members = calloc(count, sizeof(NSUInteger));
    if (arguments->_offsets == NULL || arguments->_members == NULL) {
        return OBFail(error, OBErrorMemory, @"no memory for the struct arguments of %llu dispatches",
                      (unsigned long long)count);
    }
    if (![arguments place:dispatches count:count error:error]) return nil;
    [arguments fill:dispatches count:count];
    return arguments;
}

- (void)dealloc {
    [_all release];
    free(_offsets);
    free(_members);
    [_device release];
    [super dealloc];
}

- (NSUInteger)offsetOfDispatch:(NSUInteger)index {
    return _offsets[index];
}
- (id<MTLBuffer>)bufferForAllRows {
    return _all;
}
- (NSUInteger)rows {
    return _rows;
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

- (id<MTLBuffer>)newBufferForRows:(NSUInteger)rows error:(NSError **)error {
    id<MTLBuffer> buffer = [_device newBufferWithLength:[_all length] error:error];
    if (buffer == nil) return nil;
    char *contents = [buffer contents];
    memcpy(contents, [_all contents], [_all length]);
    for (NSUInteger i = 0; i < _memberCount; i++) {
        uint32_t most, fewer = (uint32_t)rows;
        memcpy(&most, contents + _members[i], sizeof most);
        if (fewer < most) memcpy(contents + _members[i], &fewer, sizeof fewer);
    }
    return buffer;
}

@end
