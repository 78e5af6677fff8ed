#import "OBStructArguments.h"
#import "OBDevice.h"
#import "OBError.h"

// Metal asks offsets in the constant space to be a multiple of 256 on some devices.
enum { structAlignment = 256 };

@interface OBStructArguments ()
- (BOOL)place:(const ob_dispatch *)dispatches count:(NSUInteger)count error:(NSError **)error;
- (BOOL)fill:(const ob_dispatch *)dispatches count:(NSUInteger)count error:(NSError **)error;
@end

@implementation OBStructArguments

+ (OBStructArguments *)argumentsWithDevice:(OBDevice *)device
                                dispatches:(const ob_dispatch *)dispatches
                                     count:(NSUInteger)count
                                     error:(NSError **)error {
    OBStructArguments *arguments = [[[OBStructArguments alloc] init] autorelease];
    if (arguments != nil) {
        arguments->_device = [device retain];
        arguments->_offsets = calloc(count, sizeof(NSUInteger));
        arguments->_members = calloc(count, sizeof(NSUInteger));
        arguments->_leading = calloc(count, sizeof(BOOL));
    }
    if (arguments == nil || arguments->_offsets == NULL || arguments->_members == NULL || arguments->_leading == NULL) {
        return OBFail(error, OBErrorMemory, @"no memory for the struct arguments of %llu dispatches",
                      (unsigned long long)count);
    }
    if (![arguments place:dispatches count:count error:error]) return nil;
    return [arguments fill:dispatches count:count error:error] ? arguments : nil;
}

- (void)dealloc {
    if (_bytes != [_all contents]) free(_bytes);
    [_all release];
    free(_offsets);
    free(_members);
    free(_leading);
    [_device release];
    [super dealloc];
}

- (NSUInteger)offsetOfDispatch:(NSUInteger)index {
    return _offsets[index];
}
- (id<MTLBuffer>)bufferForAllRows {
    return _all;
}
- (ob_rows)rows {
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

// Lays the structs out one after another.
- (BOOL)place:(const ob_dispatch *)dispatches count:(NSUInteger)count error:(NSError **)error {
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
        if (member != NSNotFound) {
            _leading[_memberCount] = dispatch->leading != 0;
            _members[_memberCount++] = _length + member;
        }
        _offsets[i] = _length;
        _length += (dispatch->byte_count + structAlignment - 1) / structAlignment * structAlignment;
    }
    return YES;
}

// Makes the buffer. Its bytes stay at hand, as the pattern for other numbers of rows.
- (BOOL)fill:(const ob_dispatch *)dispatches count:(NSUInteger)count error:(NSError **)error {
    if (_length == 0) return YES;
    char *bytes = _bytes = calloc(1, _length);
    if (bytes == NULL) {
        OBFail(error, OBErrorMemory, @"no memory for struct arguments of %llu bytes", (unsigned long long)_length);
        return NO;
    }
    for (NSUInteger i = 0; i < count; i++) {
        if (dispatches[i].bytes != NULL) memcpy(bytes + _offsets[i], dispatches[i].bytes, dispatches[i].byte_count);
    }
    for (NSUInteger i = 0; i < _memberCount; i++) {
        uint32_t rows;
        memcpy(&rows, bytes + _members[i], sizeof rows);
        uint32_t *most = _leading[i] ? &_rows.leading : &_rows.all;
        if (rows > *most) *most = rows;
    }
    _all = [_device newBufferWithBytes:bytes length:_length storage:MTLStorageModePrivate error:error];
    if (_all == nil || [_all contents] == NULL) return _all != nil;
    _bytes = [_all contents];
    free(bytes);
    return YES;
}

- (BOOL)dependOnRows:(ob_rows)rows {
    NSUInteger all = OBRowsOfRun(NO, rows), leading = OBRowsOfRun(YES, rows);
    return (all > 0 && all < _rows.all) || (leading > 0 && leading < _rows.leading);
}

- (id<MTLBuffer>)newBufferForRows:(ob_rows)rows error:(NSError **)error {
    char *bytes = malloc(_length);
    if (bytes == NULL) {
        return OBFail(error, OBErrorMemory, @"no memory for struct arguments of %llu bytes",
                      (unsigned long long)_length);
    }
    memcpy(bytes, _bytes, _length);
    for (NSUInteger i = 0; i < _memberCount; i++) {
        uint32_t most, fewer = (uint32_t)OBRowsOfRun(_leading[i], rows);
        memcpy(&most, bytes + _members[i], sizeof most);
        if (fewer > 0 && fewer < most) memcpy(bytes + _members[i], &fewer, sizeof fewer);
    }
    id<MTLBuffer> buffer = [_device newBufferWithBytes:bytes length:_length storage:MTLStorageModePrivate error:error];
    free(bytes);
    return buffer;
}

@end
