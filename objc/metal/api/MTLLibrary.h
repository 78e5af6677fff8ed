// Compiled shaders.
#import "MTLArgument.h"
#import "MTLFunctionConstantValues.h"

@protocol MTLArgumentEncoder;
@protocol MTLDevice;
@protocol MTLFunction;

typedef NS_ENUM(NSUInteger, MTLFunctionType) {
    MTLFunctionTypeVertex = 1,
    MTLFunctionTypeFragment = 2,
    MTLFunctionTypeKernel = 3,
};

typedef NS_ENUM(NSUInteger, MTLLanguageVersion) {
    MTLLanguageVersion1_0 = (1 << 16),
    MTLLanguageVersion1_1 = (1 << 16) + 1,
    MTLLanguageVersion1_2 = (1 << 16) + 2,
    MTLLanguageVersion2_0 = (2 << 16),
    MTLLanguageVersion2_1 = (2 << 16) + 1,
    MTLLanguageVersion2_2 = (2 << 16) + 2,
    MTLLanguageVersion2_3 = (2 << 16) + 3,
    MTLLanguageVersion2_4 = (2 << 16) + 4,
    MTLLanguageVersion3_0 = (3 << 16) + 0,
    MTLLanguageVersion3_1 = (3 << 16) + 1,
};

typedef NS_ENUM(NSInteger, MTLLibraryType) {
    MTLLibraryTypeExecutable = 0,
    MTLLibraryTypeDynamic = 1,
};

MTL_EXTERN NSErrorDomain const MTLLibraryErrorDomain;

typedef NS_ENUM(NSUInteger, MTLLibraryError) {
    MTLLibraryErrorUnsupported = 1,
    MTLLibraryErrorInternal = 2,
    MTLLibraryErrorCompileFailure = 3,
    MTLLibraryErrorCompileWarning = 4,
    MTLLibraryErrorFunctionNotFound = 5,
    MTLLibraryErrorFileNotFound = 6,
};

@interface MTLCompileOptions : NSObject <NSCopying> {
    NSDictionary *_preprocessorMacros;
    BOOL _fastMathEnabled;
    MTLLanguageVersion _languageVersion;
}

// NSString to NSString or NSNumber.
@property(readwrite, copy, nonatomic) NSDictionary *preprocessorMacros;

// Accepted, and without effect: arithmetic here keeps inf, NaN and the order of additions.
@property(readwrite, nonatomic) BOOL fastMathEnabled;
@property(readwrite, nonatomic) MTLLanguageVersion languageVersion;

@end

// A function constant that a function uses. It is required unless the shader asks whether it is defined.
@interface MTLFunctionConstant : NSObject

@property(readonly) NSString *name;
@property(readonly) MTLDataType type;
@property(readonly) NSUInteger index;
@property(readonly) BOOL required;

@end

@protocol MTLFunction <NSObject>

@property(copy, atomic) NSString *label;
@property(readonly) id<MTLDevice> device;
@property(readonly) MTLFunctionType functionType;
@property(readonly) NSString *name;
@property(readonly) NSDictionary *functionConstantsDictionary;  // of MTLFunctionConstant, by name

// The argument at [[buffer(n)]] must be a struct with members that point to memory.
- (id<MTLArgumentEncoder>)newArgumentEncoderWithBufferIndex:(NSUInteger)bufferIndex;

@end

@protocol MTLLibrary <NSObject>

@property(copy, atomic) NSString *label;
@property(readonly) id<MTLDevice> device;
@property(readonly) NSArray *functionNames;  // of NSString
@property(readonly) MTLLibraryType type;
@property(readonly) NSString *installName;  // nil

// nil when there is no such function. The function keeps the library alive.
- (id<MTLFunction>)newFunctionWithName:(NSString *)functionName;

// Makes the function with values for its function constants. It gives nil and an error where a required constant has no
// value, or a value has another type; the error names the constant. Values that the function does not use are ignored.
- (id<MTLFunction>)newFunctionWithName:(NSString *)name
                        constantValues:(MTLFunctionConstantValues *)constantValues
                                 error:(NSError **)error;

@end
