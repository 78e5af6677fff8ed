#import "OBLibrary.h"
#import "OBError.h"
#import "OBKernel.h"

@implementation OBLibrary

+ (OBLibrary *)libraryWithLibrary:(id<MTLLibrary>)library device:(id<MTLDevice>)device {
    OBLibrary *result = [[[OBLibrary alloc] init] autorelease];
    result->_library = [library retain];
    result->_device = [device retain];
    return result;
}

- (id)init {
    self = [super init];
    if (self == nil) return nil;
    _kernels = [[NSMutableDictionary alloc] init];
    _lock = [[NSLock alloc] init];
    return self;
}

- (void)dealloc {
    [_kernels release];
    [_library release];
    [_device release];
    [_lock release];
    [super dealloc];
}

- (NSArray *)kernelNames {
    return [[_library functionNames] sortedArrayUsingSelector:@selector(compare:)];
}

- (OBKernel *)kernelNamed:(NSString *)name error:(NSError **)error {
    [_lock lock];
    OBKernel *kernel = [[[_kernels objectForKey:name] retain] autorelease];
    if (kernel == nil) {
        id<MTLFunction> function = [_library newFunctionWithName:name];
        if (function == nil) {
            OBFail(error, OBErrorCompile, @"no kernel named '%@' in the library", name);
        } else {
            kernel = [OBKernel kernelWithFunction:function device:_device error:error];
            [function release];
        }
        if (kernel != nil) [_kernels setObject:kernel forKey:name];
    }
    [_lock unlock];
    return kernel;
}

@end
