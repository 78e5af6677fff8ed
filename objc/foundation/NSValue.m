#import <Foundation/Foundation.h>

@implementation NSNumber

static NSNumber *number(uint64_t value, BOOL isSigned) {
    NSNumber *made = [[[NSNumber alloc] init] autorelease];
    made->_value = value;
    made->_signed = isSigned && (int64_t)value < 0;
    return made;
}

+ (NSNumber *)numberWithInteger:(NSInteger)value {
    return number((uint64_t)value, YES);
}

+ (NSNumber *)numberWithUnsignedInteger:(NSUInteger)value {
    return number(value, NO);
}

+ (NSNumber *)numberWithUnsignedLong:(unsigned long)value {
    return number(value, NO);
}

- (id)copyWithZone:(NSZone *)zone {
    (void)zone;
    return [self retain];
}

- (NSInteger)integerValue {
    return (NSInteger)_value;
}

- (NSUInteger)unsignedIntegerValue {
    return (NSUInteger)_value;
}

- (unsigned long)unsignedLongValue {
    return (unsigned long)_value;
}

- (BOOL)isEqual:(id)other {
    if (![other isKindOfClass:[NSNumber class]]) return NO;
    NSNumber *number = other;
    return number->_value == _value && number->_signed == _signed;
}

- (NSUInteger)hash {
    return (NSUInteger)_value;
}

- (NSString *)stringValue {
    return _signed ? [NSString stringWithFormat:@"%lld", (long long)_value]
                   : [NSString stringWithFormat:@"%llu", (unsigned long long)_value];
}

- (NSString *)description {
    return [self stringValue];
}

@end
