#import "OBMReflection.h"

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

@implementation OBMType

- (MTLDataType)dataType {
    return _dataType;
}

@end

@implementation OBMStructMember

- (id)initWithMember:(const metallib_member *)member slot:(const metallib_slot *)slot {
    self = [super init];
    if (self == nil) return nil;
    _name = [[NSString alloc] initWithUTF8String:member->name];
    _offset = member->offset;
    _dataType = (MTLDataType)member->type;
    if (slot != NULL) _argumentIndex = slot->id;
    if (slot != NULL && slot->size != 0) _pointerType = [[OBMPointerType alloc] initWithSlot:slot];
    if (member->count > 1) {
        _arrayType = [[OBMArrayType alloc] initWithElement:_dataType length:member->count pointerType:_pointerType];
        _dataType = MTLDataTypeArray;
    }
    return self;
}

- (void)dealloc {
    [_name release];
    [_arrayType release];
    [_pointerType release];
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
    return _argumentIndex;
}
- (MTLStructType *)structType {
    return nil;
}
- (MTLArrayType *)arrayType {
    return (MTLArrayType *)_arrayType;
}
- (MTLPointerType *)pointerType {
    return _arrayType == nil ? (MTLPointerType *)_pointerType : nil;
}

@end

@implementation OBMStructType

static const metallib_slot *slotOf(const metallib_slots *slots, const metallib_argument *argument, uint32_t member) {
    for (uint32_t i = 0; slots != NULL && i < slots->count; i++) {
        if (slots->slots[i].argument == argument->index && slots->slots[i].member == member) return &slots->slots[i];
    }
    return NULL;
}

- (id)initWithArgument:(const metallib_argument *)argument slots:(const metallib_slots *)slots {
    self = [super init];
    if (self == nil) return nil;
    NSMutableArray *list = [[NSMutableArray alloc] initWithCapacity:argument->member_count];
    for (uint32_t i = 0; i < argument->member_count; i++) {
        const metallib_slot *slot = slotOf(slots, argument, i);
        OBMStructMember *member = [[OBMStructMember alloc] initWithMember:&argument->members[i] slot:slot];
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

@implementation OBMArrayType

- (id)initWithElement:(MTLDataType)element length:(NSUInteger)length pointerType:(OBMPointerType *)pointerType {
    self = [super init];
    if (self == nil) return nil;
    _dataType = MTLDataTypeArray;
    _elementType = element;
    _arrayLength = length;
    _stride = element == MTLDataTypePointer ? sizeof(uint64_t) : dataTypeSize(element);
    _elementPointerType = [pointerType retain];
    return self;
}

- (void)dealloc {
    [_elementPointerType release];
    [super dealloc];
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
    return _elementPointerType != nil ? 1 : 0;
}
- (MTLStructType *)elementStructType {
    return nil;
}
- (MTLArrayType *)elementArrayType {
    return nil;
}
- (MTLPointerType *)elementPointerType {
    return (MTLPointerType *)_elementPointerType;
}

@end

@implementation OBMPointerType

- (id)initWithElement:(MTLDataType)element
           structType:(OBMStructType *)structType
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

- (id)initWithSlot:(const metallib_slot *)slot {
    self = [super init];
    if (self == nil) return nil;
    _dataType = MTLDataTypePointer;
    _elementType = (MTLDataType)slot->type;
    _access = (MTLBindingAccess)slot->access;
    _alignment = slot->alignment;
    _dataSize = slot->size;
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
    return (MTLStructType *)_elementStructType;
}
- (MTLArrayType *)elementArrayType {
    return nil;
}

@end

@implementation OBMComputePipelineReflection

- (id)initWithBindings:(NSArray *)bindings {
    self = [super init];
    if (self != nil) _bindings = [bindings copy];
    return self;
}

- (void)dealloc {
    [_bindings release];
    [super dealloc];
}

- (NSArray *)bindings {
    return _bindings;
}

@end
