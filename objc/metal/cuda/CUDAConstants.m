#import "CUDAConstants.h"

#import <math.h>
#import <string.h>

#import "metal/api/MTLArgument.h"

static NSString *floatText(float value) {
    if (isnan(value)) return @"NAN";
    if (isinf(value)) return value > 0 ? @"INFINITY" : @"-INFINITY";
    return [NSString stringWithFormat:@"%af", (double)value];
}

static float widened(uint16_t bits, BOOL bfloat) {
    float value;
    uint32_t word = (uint32_t)bits << 16;
    if (bfloat) {
        memcpy(&value, &word, sizeof value);
        return value;
    }
    int exponent = bits >> 10 & 31;
    float fraction = bits & 0x3FF, sign = bits >> 15 ? -1.0f : 1.0f;
    if (exponent == 31) return fraction == 0 ? sign * INFINITY : NAN;
    return sign * (exponent == 0 ? ldexpf(fraction, -24) : ldexpf(fraction + 1024, exponent - 25));
}

static NSString *integerText(const char *type, const char *bytes, size_t size, BOOL isSigned) {
    uint64_t word = 0;
    memcpy(&word, bytes, size);
    if (isSigned && size < 8 && word >> (8 * size - 1)) word |= ~(uint64_t)0 << 8 * size;
    return [NSString stringWithFormat:@"%s(%lluull)", type, (unsigned long long)word];
}

// The C++ of one scalar, and its size in *size; nil for a type that has none.
static NSString *scalarText(MTLDataType scalar, const char *bytes, size_t *size) {
    static const struct {
        MTLDataType type;
        const char *name;
        size_t size;
        BOOL isSigned;
    } integers[] = {
        {MTLDataTypeInt, "int", 4, YES},      {MTLDataTypeUInt, "uint", 4, NO},  {MTLDataTypeShort, "short", 2, YES},
        {MTLDataTypeUShort, "ushort", 2, NO}, {MTLDataTypeChar, "char", 1, YES}, {MTLDataTypeUChar, "uchar", 1, NO},
        {MTLDataTypeBool, "bool", 1, NO},     {MTLDataTypeLong, "long", 8, YES}, {MTLDataTypeULong, "ulong", 8, NO},
    };
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) {
        if (integers[i].type != scalar) continue;
        *size = integers[i].size;
        return bytes == NULL ? @"" : integerText(integers[i].name, bytes, *size, integers[i].isSigned);
    }
    *size = scalar == MTLDataTypeFloat ? 4 : 2;
    if (bytes == NULL) return @"";
    float value;
    uint16_t half;
    memcpy(&value, bytes, *size == 4 ? 4 : 0);
    memcpy(&half, bytes, 2);
    if (*size == 4) return floatText(value);
    BOOL bfloat = scalar == MTLDataTypeBFloat;
    return [NSString stringWithFormat:@"metal::%@(%@)", bfloat ? @"bfloat" : @"half", floatText(widened(half, bfloat))];
}

// The scalar of a vector's type, and how many there are.
static MTLDataType scalarOf(MTLDataType type, NSUInteger *count) {
    static const MTLDataType scalars[] = {
        MTLDataTypeFloat, MTLDataTypeHalf,  MTLDataTypeInt,  MTLDataTypeUInt, MTLDataTypeShort, MTLDataTypeUShort,
        MTLDataTypeChar,  MTLDataTypeUChar, MTLDataTypeBool, MTLDataTypeLong, MTLDataTypeULong, MTLDataTypeBFloat,
    };
    for (size_t i = 0; i < sizeof scalars / sizeof *scalars; i++) {
        if (type < scalars[i] || type - scalars[i] > 3) continue;
        *count = type - scalars[i] + 1;
        return scalars[i];
    }
    *count = 0;
    return MTLDataTypeNone;
}

NSArray *CUDAMacrosOfConstants(const metallib_signature *signature, const void *const *values) {
    NSMutableArray *macros = [NSMutableArray array];
    for (uint32_t i = 0; values != NULL && i < signature->constant_count; i++) {
        NSUInteger count;
        MTLDataType scalar = scalarOf(signature->constants[i].type, &count);
        if (values[i] == NULL) continue;
        NSMutableArray *parts = [NSMutableArray array];
        const char *bytes = values[i];
        for (NSUInteger k = 0; k < count; k++) {
            size_t size;
            [parts addObject:scalarText(scalar, bytes, &size)];
            bytes += size;
        }
        uint32_t index = signature->constants[i].index;
        [macros addObject:[NSString stringWithFormat:@"-DMETALLIB_VALUE_%u={%@}", index,
                                                     [parts componentsJoinedByString:@", "]]];
        [macros addObject:[NSString stringWithFormat:@"-DMETALLIB_DEFINED_%u={true}", index]];
    }
    return macros;
}

NSString *CUDANameOfMacros(NSArray *macros) {
    if ([macros count] == 0) return @"";
    uint64_t hash = 0xCBF29CE484222325ull;  // FNV-1a
    const char *text = [[macros componentsJoinedByString:@"\n"] UTF8String];
    for (; *text != '\0'; text++) hash = (hash ^ (unsigned char)*text) * 0x100000001B3ull;
    return [NSString stringWithFormat:@"-%016llx", (unsigned long long)hash];
}
