#ifndef OBF_NSVALUE_H
#define OBF_NSVALUE_H

#import <Foundation/NSString.h>

// A whole number.
@interface NSNumber : NSObject <NSCopying> {
    uint64_t _value;
    BOOL _signed;
}

+ (NSNumber *)numberWithInteger:(NSInteger)value;
+ (NSNumber *)numberWithUnsignedInteger:(NSUInteger)value;
+ (NSNumber *)numberWithUnsignedLong:(unsigned long)value;
- (NSInteger)integerValue;
- (NSUInteger)unsignedIntegerValue;
- (unsigned long)unsignedLongValue;
- (NSString *)stringValue;

@end

#endif
