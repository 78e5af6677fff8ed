// Values for the function constants of a shader, by index or by name.
#import "MTLArgument.h"

@interface MTLFunctionConstantValues : NSObject <NSCopying> {
    NSMutableDictionary *_byIndex, *_byName;  // NSNumber and NSString to an array of type and NSData
}

// Each copies the value, which has the type's size. The latest counts.
- (void)setConstantValue:(const void *)value type:(MTLDataType)type atIndex:(NSUInteger)index;
- (void)setConstantValues:(const void *)values type:(MTLDataType)type withRange:(NSRange)range;
- (void)setConstantValue:(const void *)value type:(MTLDataType)type withName:(NSString *)name;

// Forgets all values.
- (void)reset;

@end
