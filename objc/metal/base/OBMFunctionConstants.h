// Function constants: those of a library's tables, and the values that a caller sets.
//
// Apple's MTLFunctionConstantValues does not tell what was set, so that on macOS devices of this folder take an object of
// their own that answers to the same methods. Elsewhere it goes by Metal's name.
#import "OBMMetal.h"
#import "metal/abi/metallib.h"

#if defined(__APPLE__)
@interface OBMFunctionConstantValues : NSObject <NSCopying> {
    NSMutableDictionary *_byIndex, *_byName;  // NSNumber and NSString to an array of type and NSData
}

- (void)setConstantValue:(const void *)value type:(MTLDataType)type atIndex:(NSUInteger)index;
- (void)setConstantValues:(const void *)values type:(MTLDataType)type withRange:(NSRange)range;
- (void)setConstantValue:(const void *)value type:(MTLDataType)type withName:(NSString *)name;
- (void)reset;

@end
#else
#define OBMFunctionConstantValues MTLFunctionConstantValues
#endif

@interface OBMFunctionConstantValues (Entries)
// An array of the type's number and the value's NSData; nil where none is set.
- (NSArray *)entryForName:(NSString *)name index:(NSUInteger)index;
@end

// It answers to MTLFunctionConstant.
@interface OBMFunctionConstant : NSObject {
    NSString *_name;
    MTLDataType _type;
    NSUInteger _index;
    BOOL _required;
}

- (id)initWithConstant:(const metallib_constant *)constant;
- (NSString *)name;

@end
