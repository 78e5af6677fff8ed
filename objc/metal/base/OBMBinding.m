#import "OBMBinding.h"

@implementation OBMBinding

- (id)initWithArgument:(const metallib_argument *)argument slots:(const metallib_slots *)slots {
    (void)slots;
    self = [super init];
    if (self == nil) return nil;
    _name = [[NSString alloc] initWithUTF8String:argument->name];
    _type = (MTLBindingType)argument->kind;
    _access = (MTLBindingAccess)argument->access;
    _index = argument->index;
    _alignment = argument->alignment;
    _dataSize = argument->size;
    return self;
}

+ (OBMBinding *)newBindingWithArgument:(const metallib_argument *)argument slots:(const metallib_slots *)slots {
    BOOL buffer = argument->kind == METALLIB_BUFFER;
    return [(buffer ? [OBMBufferBinding alloc] : [OBMThreadgroupBinding alloc]) initWithArgument:argument slots:slots];
}

- (void)dealloc {
    [_name release];
    [super dealloc];
}

- (NSString *)name {
    return _name;
}
- (MTLBindingType)type {
    return _type;
}
- (MTLBindingAccess)access {
    return _access;
}
- (NSUInteger)index {
    return _index;
}
- (BOOL)isUsed {
    return YES;
}
- (BOOL)isArgument {
    return YES;
}

@end

@implementation OBMBufferBinding

- (id)initWithArgument:(const metallib_argument *)argument slots:(const metallib_slots *)slots {
    self = [super initWithArgument:argument slots:slots];
    if (self == nil) return nil;
    _dataType = (MTLDataType)argument->type;
    if (argument->member_count > 0) {
        _structType = [[OBMStructType alloc] initWithArgument:argument slots:slots];
    }
    _pointerType = [[OBMPointerType alloc] initWithElement:_dataType structType:_structType argument:argument];
    return self;
}

- (void)dealloc {
    [_structType release];
    [_pointerType release];
    [super dealloc];
}

- (NSUInteger)bufferAlignment {
    return _alignment;
}
- (NSUInteger)bufferDataSize {
    return _dataSize;
}
- (MTLDataType)bufferDataType {
    return _dataType;
}
- (MTLStructType *)bufferStructType {
    return (MTLStructType *)_structType;
}
- (MTLPointerType *)bufferPointerType {
    return (MTLPointerType *)_pointerType;
}

@end

@implementation OBMThreadgroupBinding

- (NSUInteger)threadgroupMemoryAlignment {
    return _alignment;
}
- (NSUInteger)threadgroupMemoryDataSize {
    return _dataSize;
}

@end
