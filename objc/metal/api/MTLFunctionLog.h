// The findings about one command buffer of a device that validates shaders.
#import "MTLDefines.h"

@class NSURL;
@protocol MTLFunction;

typedef NS_ENUM(NSUInteger, MTLFunctionLogType) {
    MTLFunctionLogTypeValidation = 0,
};

// It holds id<MTLFunctionLog>.
@protocol MTLLogContainer <NSFastEnumeration>
@end

@protocol MTLFunctionLogDebugLocation <NSObject>

@property(readonly, nonatomic) NSString *functionName;
@property(readonly, nonatomic) NSURL *URL;
@property(readonly, nonatomic) NSUInteger line;
@property(readonly, nonatomic) NSUInteger column;

@end

// Its description is a text for people.
@protocol MTLFunctionLog <NSObject>

@property(readonly, nonatomic) MTLFunctionLogType type;
@property(readonly, nonatomic) NSString *encoderLabel;
@property(readonly, nonatomic) id<MTLFunction> function;
@property(readonly, nonatomic) id<MTLFunctionLogDebugLocation> debugLocation;

@end
