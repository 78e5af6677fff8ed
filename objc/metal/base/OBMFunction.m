#import "OBMFunction.h"

#import <stdlib.h>
#import <string.h>

#import "OBMArgumentEncoder.h"
#import "OBMError.h"
#import "OBMLibrary.h"

@implementation OBMFunction

- (id)initWithLibrary:(OBMLibrary *)library function:(const metallib_function *)function {
    self = [super init];
    if (self == nil) return nil;
    _library = [library retain];
    _function = function;
    return self;
}

- (void)dealloc {
    for (uint32_t i = 0; _values != NULL && i < _function->signature.constant_count; i++) free((void *)_values[i]);
    free(_values);
    [_given release];
    [_library release];
    [super dealloc];
}

- (const metallib_function *)function {
    return _function;
}
// The constants that the function needs and has no values for, in words; nil where there is none.
- (NSString *)missing {
    NSMutableArray *names = [NSMutableArray array];
    const metallib_signature *signature = &_function->signature;
    for (uint32_t i = 0; i < signature->constant_count; i++) {
        const metallib_constant *constant = &signature->constants[i];
        if (constant->use != METALLIB_REQUIRED || (_values != NULL && _values[i] != NULL)) continue;
        [names
            addObject:[NSString stringWithFormat:@"'%s' [[function_constant(%u)]]", constant->name, constant->index]];
    }
    return [names count] == 0 ? nil : [names componentsJoinedByString:@", "];
}

- (BOOL)failForMissing:(NSError **)error {
    NSString *missing = [self missing];
    if (missing == nil) return NO;
    OBMSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorCompileFailure,
                @"function '%@' has no value for its function constant %@; give one where the function is made",
                [self name], missing);
    return YES;
}

- (BOOL)specialise:(OBMFunctionConstantValues *)values error:(NSError **)error {
    const metallib_signature *signature = &_function->signature;
    if (signature->constant_count == 0) return YES;
    NSMutableString *given = [NSMutableString string];
    _values = calloc(signature->constant_count, sizeof *_values);
    for (uint32_t i = 0; _values != NULL && i < signature->constant_count; i++) {
        const metallib_constant *constant = &signature->constants[i];
        NSArray *entry = [values entryForName:[NSString stringWithUTF8String:constant->name] index:constant->index];
        if (entry == nil) continue;
        NSUInteger type = [[entry objectAtIndex:0] unsignedLongValue];
        NSData *data = [entry objectAtIndex:1];
        if (type != constant->type) {
            OBMSetError(
                error, MTLLibraryErrorDomain, MTLLibraryErrorCompileFailure,
                @"function '%@': the value of function constant '%s' has type %lu, and the constant %u (numbers "
                @"of MTLDataType)",
                [self name], constant->name, (unsigned long)type, constant->type);
            return NO;
        }
        void *copy = malloc([data length]);
        if (copy != NULL) memcpy(copy, [data bytes], [data length]);
        _values[i] = copy;
        [given appendFormat:@" %u=", constant->index];
        for (NSUInteger b = 0; b < [data length]; b++) [given appendFormat:@"%02x", ((const uint8_t *)[data bytes])[b]];
    }
    _given = [given copy];
    return ![self failForMissing:error];
}

- (const metallib_slots *)slots {
    return [_library slotsOfFunction:_function];
}
- (id<MTLArgumentEncoder>)newArgumentEncoderWithBufferIndex:(NSUInteger)bufferIndex {
    return [[OBMArgumentEncoder alloc] initWithFunction:self index:bufferIndex];
}
- (const void *const *)constantValues {
    return _values;
}
- (BOOL)makeReady:(NSError **)error {
    if ([self failForMissing:error]) return NO;
    _code = [_library codeOfFunction:_function values:_values error:error];
    return _code != NULL;
}
- (const void *)code {
    return _code;
}
- (NSString *)archiveKey {
    return [NSString
        stringWithFormat:@"%@ %s%@", [_library identity], _function->signature.name, _given != nil ? _given : @""];
}
- (id<MTLDevice>)device {
    return [_library device];
}
- (MTLFunctionType)functionType {
    return MTLFunctionTypeKernel;
}
- (NSDictionary *)functionConstantsDictionary {
    NSMutableDictionary *constants = [NSMutableDictionary dictionary];
    for (uint32_t i = 0; i < _function->signature.constant_count; i++) {
        const metallib_constant *constant = &_function->signature.constants[i];
        if (constant->use == METALLIB_UNUSED) continue;
        OBMFunctionConstant *made = [[OBMFunctionConstant alloc] initWithConstant:constant];
        [constants setObject:made forKey:[made name]];
        [made release];
    }
    return constants;
}
- (NSString *)name {
    return [NSString stringWithUTF8String:_function->signature.name];
}

@end
