#import "OBMLibrary.h"

#import <dlfcn.h>
#import <string.h>
#import <sys/stat.h>

#import "OBMCompiler.h"
#import "OBMDevice.h"
#import "OBMDigest.h"
#import "OBMError.h"
#import "OBMFunction.h"
#import "OBMFunctionConstants.h"
#import "OBMKernel.h"
#import "OBMObjectFile.h"

static BOOL isFolder(NSString *path) {
    struct stat status;
    return stat([path fileSystemRepresentation], &status) == 0 && S_ISDIR(status.st_mode);
}

static BOOL isFile(NSString *path) {
    struct stat status;
    return stat([path fileSystemRepresentation], &status) == 0 && S_ISREG(status.st_mode);
}

static NSString *objectInBundle(NSString *path, OBMDevice *device, NSError **error) {
    if (!isFolder(path)) {
        OBMSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorFileNotFound,
                    @"%@: no shader library there; compile one with 'python3 -m pipeline.metalc -o "
                    @"NAME.metallib FILE.metal'",
                    path);
        return nil;
    }
    NSArray *wanted = [device objectNames:error];
    if (wanted == nil) return nil;
    for (NSString *name in wanted) {
        NSString *object = [path stringByAppendingPathComponent:[name stringByAppendingString:@".so"]];
        if (isFile(object)) return object;
    }
    OBMSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorUnsupported,
                @"%@: compiled for other processors; compile it again for one of: %@", path,
                [wanted componentsJoinedByString:@", "]);
    return nil;
}

@implementation OBMLibrary

- (BOOL)openObject:(NSString *)path error:(NSError **)error {
    _handle = obm_object_open([path fileSystemRepresentation]);
    if (_handle == NULL) {
        const char *why = dlerror();
        OBMSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorInternal,
                    @"%@: cannot be loaded, compile it again (%s)", path, why != NULL ? why : "no memory is left");
        return NO;
    }
    _library = dlsym(_handle, "ob_metallib");
    if (_library == NULL || _library->abi != METALLIB_ABI) {
        OBMSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorUnsupported,
                    @"%@: not a shader library of this version (%d), compile it again", path, METALLIB_ABI);
        return NO;
    }
    const char *problem = obm_metallib_problem(_library, [self hasEntries]);
    _slots = dlsym(_handle, "ob_metallib_slots");
    if (problem == NULL) return YES;
    OBMSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorInternal, @"%@: damaged, it has %s; compile it again",
                path, problem);
    return NO;
}

- (id)initWithDevice:(OBMDevice *)device path:(NSString *)path error:(NSError **)error {
    self = [super init];
    if (self == nil) return nil;
    _device = [device retain];
    NSString *object = objectInBundle(path, device, error);
    if (object == nil || ![self openObject:object error:error]) {
        [self release];
        return nil;
    }
    _object = [object copy];
    if ([self openedFolder:path]) return self;
    OBMSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorInternal, @"%@: no memory left to open it", path);
    [self release];
    return nil;
}

- (id)initWithDevice:(OBMDevice *)device
              source:(NSString *)source
             options:(MTLCompileOptions *)options
               error:(NSError **)error {
    NSString *path = OBMCompileSource(source, options, device, error);
    if (path != nil) return [self initWithDevice:device path:path error:error];
    [self release];
    return nil;
}

- (void)dealloc {
    if (_handle != NULL) dlclose(_handle);
    [_object release];
    [_identity release];
    [_device release];
    [super dealloc];
}

- (NSString *)identity {
    @synchronized(self) {
        if (_identity == nil) {
            NSData *content = [NSData dataWithContentsOfFile:_object];
            char digest[OBM_DIGEST_TEXT];
            obm_digest([content bytes], [content length], digest);
            _identity = [[NSString alloc] initWithUTF8String:digest];
        }
        return _identity;
    }
}

- (const metallib_slots *)slotsOfFunction:(const metallib_function *)function {
    for (const metallib_slots *const *slots = _slots; slots != NULL && *slots != NULL; slots++) {
        if (strcmp((*slots)->function, function->signature.name) == 0) return *slots;
    }
    return NULL;
}

- (BOOL)hasEntries {
    return YES;
}

- (BOOL)openedFolder:(NSString *)path {
    (void)path;
    return YES;
}

- (const void *)codeOfFunction:(const metallib_function *)function
                        values:(const void *const *)values
                         error:(NSError **)error {
    (void)values;
    (void)error;
    return function;
}

- (id<MTLDevice>)device {
    return _device;
}
- (MTLLibraryType)type {
    return MTLLibraryTypeExecutable;
}
- (NSString *)installName {
    return nil;
}

- (NSArray *)functionNames {
    NSMutableArray *names = [NSMutableArray arrayWithCapacity:_library->function_count];
    for (uint32_t i = 0; i < _library->function_count; i++) {
        [names addObject:[NSString stringWithUTF8String:_library->functions[i].signature.name]];
    }
    return names;
}

- (id<MTLFunction>)newFunctionWithName:(NSString *)functionName {
    if (functionName == nil) OBMRaise(@"newFunctionWithName: the name is nil");
    const metallib_function *function = obm_metallib_find(_library, [functionName UTF8String]);
    return function == NULL ? nil : [[OBMFunction alloc] initWithLibrary:self function:function];
}

- (id<MTLFunction>)newFunctionWithName:(NSString *)name
                        constantValues:(MTLFunctionConstantValues *)constantValues
                                 error:(NSError **)error {
    if (constantValues == nil) OBMRaise(@"newFunctionWithName:constantValues: the values are nil");
    OBMFunctionConstantValues *values = (OBMFunctionConstantValues *)(id)constantValues;
    if (![values isKindOfClass:[OBMFunctionConstantValues class]]) {
        OBMRaise(@"newFunctionWithName:constantValues: the values are another device's; make them with "
                 @"newFunctionConstantValues of this device");
    }
    OBMFunction *function = (OBMFunction *)[self newFunctionWithName:name];
    if (function == nil) {
        OBMSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorFunctionNotFound, @"no function named '%@'", name);
        return nil;
    }
    if ([function specialise:values error:error]) return function;
    [function release];
    return nil;
}

@end
