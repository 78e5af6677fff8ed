#import "OBMFunction.h"

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
    [_library release];
    [super dealloc];
}

- (const metallib_function *)function {
    return _function;
}
- (BOOL)makeReady:(NSError **)error {
    return [_library makeReady:_function error:error];
}
- (const void *)code {
    return [_library codeOfFunction:_function];
}
- (id<MTLDevice>)device {
    return [_library device];
}
- (MTLFunctionType)functionType {
    return MTLFunctionTypeKernel;
}
- (NSString *)name {
    return [NSString stringWithUTF8String:_function->signature.name];
}

@end
