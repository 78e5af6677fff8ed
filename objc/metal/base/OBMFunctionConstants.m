#import "OBMFunctionConstants.h"

// Bytes of a scalar or a vector; 0 for other types.
static NSUInteger sizeOfConstant(MTLDataType type) {
    static const struct {
        MTLDataType scalar;
        NSUInteger size;
    } scalars[] = {
        {MTLDataTypeFloat, 4}, {MTLDataTypeHalf, 2},   {MTLDataTypeInt, 4},   {MTLDataTypeUInt, 4},
        {MTLDataTypeShort, 2}, {MTLDataTypeUShort, 2}, {MTLDataTypeChar, 1},  {MTLDataTypeUChar, 1},
        {MTLDataTypeBool, 1},  {MTLDataTypeLong, 8},   {MTLDataTypeULong, 8}, {MTLDataTypeBFloat, 2},
    };
    for (size_t i = 0; i < sizeof scalars / sizeof *scalars; i++) {
        NSUInteger more = type - scalars[i].scalar;
        if (type >= scalars[i].scalar && more < 4) return scalars[i].size * (more == 2 ? 4 : more + 1);
    }
    return 0;
}

@implementation OBMFunctionConstantValues

- (id)init {
    self = [super init];
    if (self == nil) return nil;
    _byIndex = [[NSMutableDictionary alloc] init];
    _byName = [[NSMutableDictionary alloc] init];
    return self;
}

- (void)dealloc {
    [_byIndex release];
    [_byName release];
    [super dealloc];
}

- (id)copyWithZone:(NSZone *)zone {
    OBMFunctionConstantValues *copy = [[OBMFunctionConstantValues allocWithZone:zone] init];
    [copy->_byIndex addEntriesFromDictionary:_byIndex];
    [copy->_byName addEntriesFromDictionary:_byName];
    return copy;
}

static NSArray *entry(const void *value, MTLDataType type) {
    NSUInteger size = sizeOfConstant(type);
    if (value == NULL || size == 0) {
        [NSException
             raise:NSInvalidArgumentException
            format:@"setConstantValue: %@; a function constant is a scalar or a vector of them",
                   value == NULL ? @"the value is NULL" : [NSString stringWithFormat:@"type %lu", (unsigned long)type]];
    }
    return [NSArray
        arrayWithObjects:[NSNumber numberWithUnsignedLong:type], [NSData dataWithBytes:value length:size], nil];
}

- (void)setConstantValue:(const void *)value type:(MTLDataType)type atIndex:(NSUInteger)index {
    [_byIndex setObject:entry(value, type) forKey:[NSNumber numberWithUnsignedLong:index]];
}

- (void)setConstantValues:(const void *)values type:(MTLDataType)type withRange:(NSRange)range {
    for (NSUInteger i = 0; i < range.length; i++) {
        const char *value = values == NULL ? NULL : (const char *)values + i * sizeOfConstant(type);
        [self setConstantValue:value type:type atIndex:range.location + i];
    }
}

- (void)setConstantValue:(const void *)value type:(MTLDataType)type withName:(NSString *)name {
    if (name == nil) [NSException raise:NSInvalidArgumentException format:@"setConstantValue: the name is nil"];
    [_byName setObject:entry(value, type) forKey:name];
}

- (void)reset {
    [_byIndex removeAllObjects];
    [_byName removeAllObjects];
}

@end

@implementation OBMFunctionConstantValues (Entries)

- (NSArray *)entryForName:(NSString *)name index:(NSUInteger)index {
    NSArray *found = [_byName objectForKey:name];
    return found != nil ? found : [_byIndex objectForKey:[NSNumber numberWithUnsignedLong:index]];
}

@end

@implementation OBMFunctionConstant

- (id)initWithConstant:(const metallib_constant *)constant {
    self = [super init];
    if (self == nil) return nil;
    _name = [[NSString alloc] initWithUTF8String:constant->name];
    _type = constant->type;
    _index = constant->index;
    _required = constant->use == METALLIB_REQUIRED;
    return self;
}

- (void)dealloc {
    [_name release];
    [super dealloc];
}

- (NSString *)name {
    return _name;
}
- (MTLDataType)type {
    return _type;
}
- (NSUInteger)index {
    return _index;
}
- (BOOL)required {
    return _required;
}

@end
