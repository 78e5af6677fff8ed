#import "MTLArgumentPrivate.h"

// Bytes of a scalar or vector; 0 for any other type. A vector of 3 takes the room of one of 4.
static NSUInteger dataTypeSize(MTLDataType type) {
    static const struct {
        MTLDataType first;
        NSUInteger size;
    } families[] = {
        {MTLDataTypeFloat, 4}, {MTLDataTypeHalf, 2},   {MTLDataTypeInt, 4},   {MTLDataTypeUInt, 4},
        {MTLDataTypeShort, 2}, {MTLDataTypeUShort, 2}, {MTLDataTypeChar, 1},  {MTLDataTypeUChar, 1},
        {MTLDataTypeBool, 1},  {MTLDataTypeLong, 8},   {MTLDataTypeULong, 8}, {MTLDataTypeBFloat, 2},
    };
    static const NSUInteger widths[] = {1, 2, 4, 4};
    for (NSUInteger i = 0; i < sizeof families / sizeof *families; i++) {
        if (type < families[i].first || type >= families[i].first + 4) continue;
        return families[i].size * widths[type - families[i].first];
    }
    return 0;
}

@implementation MTLType

- (MTLDataType)dataType {
    return _dataType;
}

@end

@implementation MTLStructMember

- (id)initWithMember:(const metallib_member *)member {
    self = [super init];
    if (self == nil) return nil;
    _name = [[NSString alloc] initWithUTF8String:member->name];
    _offset = member->offset;
    _dataType = (MTLDataType)member->type;
    if (member->count > 1) {
        _arrayType = [[MTLArrayType alloc] initWithElement:_dataType length:member->count];
        _dataType = MTLDataTypeArray;
    }
    return self;
}

- (void)dealloc {
    [_name release];
    [_arrayType release];
    [super dealloc];
}

- (NSString *)name {
    return _name;
}
- (NSUInteger)offset {
    return _offset;
}
- (MTLDataType)dataType {
    return _dataType;
}
- (NSUInteger)argumentIndex {
    return 0;
}
- (MTLStructType *)structType {
    return nil;
}
- (MTLArrayType *)arrayType {
    return _arrayType;
}
- (MTLPointerType *)pointerType {
    return nil;
}

@end

@implementation MTLStructType

- (id)initWithMembers:(const metallib_member *)members count:(NSUInteger)count {
    self = [super init];
    if (self == nil) return nil;
    NSMutableArray *list = [[NSMutableArray alloc] initWithCapacity:count];
    for (NSUInteger i = 0; i < count; i++) {
        MTLStructMember *member = [[MTLStructMember alloc] initWithMember:&members[i]];
        [list addObject:member];
        [member release];
    }
    _members = list;
    _dataType = MTLDataTypeStruct;
    return self;
}

- (void)dealloc {
    [_members release];
    [super dealloc];
}

- (NSArray *)members {
    return _members;
}

- (MTLStructMember *)memberByName:(NSString *)name {
    for (MTLStructMember *member in _members) {
        if ([[member name] isEqualToString:name]) return member;
    }
    return nil;
}

@end

@implementation MTLArrayType

- (id)initWithElement:(MTLDataType)element length:(NSUInteger)length {
    self = [super init];
    if (self == nil) return nil;
    _dataType = MTLDataTypeArray;
    _elementType = element;
    _arrayLength = length;
    _stride = dataTypeSize(element);
    return self;
}

- (MTLDataType)elementType {
    return _elementType;
}
- (NSUInteger)arrayLength {
    return _arrayLength;
}
- (NSUInteger)stride {
    return _stride;
}
- (NSUInteger)argumentIndexStride {
    return 0;
}
- (MTLStructType *)elementStructType {
    return nil;
}
- (MTLArrayType *)elementArrayType {
    return nil;
}
- (MTLPointerType *)elementPointerType {
    return nil;
}

@end

@implementation MTLPointerType

- (id)initWithElement:(MTLDataType)element
           structType:(MTLStructType *)structType
             argument:(const metallib_argument *)argument {
    self = [super init];
    if (self == nil) return nil;
    _dataType = MTLDataTypePointer;
    _elementType = element;
    _access = (MTLBindingAccess)argument->access;
    _alignment = argument->alignment;
    _dataSize = argument->size;
    _elementStructType = [structType retain];
    return self;
}

- (void)dealloc {
    [_elementStructType release];
    [super dealloc];
}

- (MTLDataType)elementType {
    return _elementType;
}
- (MTLBindingAccess)access {
    return _access;
}
- (NSUInteger)alignment {
    return _alignment;
}
- (NSUInteger)dataSize {
    return _dataSize;
}
- (BOOL)elementIsArgumentBuffer {
    return NO;
}
- (MTLStructType *)elementStructType {
    return _elementStructType;
}
- (MTLArrayType *)elementArrayType {
    return nil;
}

@end
