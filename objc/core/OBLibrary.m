#import "OBLibrary.h"
#import "OBArchive.h"
#import "OBError.h"
#import "OBExtensions.h"
#import "OBKernel.h"

@implementation OBLibrary

+ (OBLibrary *)libraryWithLibrary:(id<MTLLibrary>)library device:(id<MTLDevice>)device {
    OBLibrary *result = [[[OBLibrary alloc] init] autorelease];
    if (result == nil) return nil;
    result->_library = [library retain];
    result->_device = [device retain];
    return result;
}

- (id)init {
    self = [super init];
    if (self == nil) return nil;
    _kernels = [[NSMutableDictionary alloc] init];
    _lock = [[NSLock alloc] init];
    if (_kernels != nil && _lock != nil) return self;
    [self release];
    return nil;
}

- (void)dealloc {
    [_kernels release];
    [_archive release];
    [_library release];
    [_device release];
    [_lock release];
    [super dealloc];
}

- (OBArchive *)archive {
    [_lock lock];
    OBArchive *archive = [[_archive retain] autorelease];
    [_lock unlock];
    return archive;
}

- (void)setArchive:(OBArchive *)archive {
    [archive retain];
    [_lock lock];
    OBArchive *before = _archive;
    _archive = archive;
    [_lock unlock];
    [before release];
}

- (NSArray *)kernelNames {
    return [[_library functionNames] sortedArrayUsingSelector:@selector(compare:)];
}

- (OBKernel *)makeKernelNamed:(NSString *)name error:(NSError **)error {
    id<MTLFunction> function = [[_library newFunctionWithName:name] autorelease];
    if (function == nil) return OBFail(error, OBErrorCompile, @"no kernel named '%@' in the library", name);
    OBKernel *kernel = [OBKernel kernelWithFunction:function device:_device archive:_archive error:error];
    if (kernel != nil) [_kernels setObject:kernel forKey:name];
    return kernel;
}

- (OBKernel *)kernelNamed:(NSString *)name error:(NSError **)error {
    OBKernel *kernel = nil;
    [_lock lock];
    @try {
        kernel = [[[_kernels objectForKey:name] retain] autorelease];
        if (kernel == nil) kernel = [self makeKernelNamed:name error:error];
    } @finally {
        [_lock unlock];
    }
    return kernel;
}

- (OBKernel *)kernelNamed:(NSString *)name values:(MTLFunctionConstantValues *)values error:(NSError **)error {
    NSError *cause = nil;
    id<MTLFunction> function = [[_library newFunctionWithName:name constantValues:values error:&cause] autorelease];
    if (function == nil) return OBFail(error, OBErrorCompile, @"kernel '%@': %@", name, [cause localizedDescription]);
    return [OBKernel kernelWithFunction:function device:_device archive:[self archive] error:error];
}

- (MTLFunctionConstantValues *)constantValues {
    BOOL own = [_device conformsToProtocol:@protocol(OBConstantsDevice)];
    return [(own ? [(id<OBConstantsDevice>)_device newFunctionConstantValues]
                 : [[MTLFunctionConstantValues alloc] init]) autorelease];
}

static NSInteger byIndex(id a, id b, void *context) {
    (void)context;
    NSUInteger first = [(MTLFunctionConstant *)a index], second = [(MTLFunctionConstant *)b index];
    return first < second ? NSOrderedAscending : first > second ? NSOrderedDescending : NSOrderedSame;
}

- (NSArray *)constantsOfKernel:(NSString *)name error:(NSError **)error {
    id<MTLFunction> function = [[_library newFunctionWithName:name] autorelease];
    if (function == nil) return OBFail(error, OBErrorCompile, @"no kernel named '%@' in the library", name);
    return [[[function functionConstantsDictionary] allValues] sortedArrayUsingFunction:byIndex context:NULL];
}

@end
