#define _GNU_SOURCE
#import "CUDALibrary.h"

#import <dlfcn.h>
#import <stdio.h>
#import <stdlib.h>
#import <string.h>
#import <unistd.h>

#import "CUDACode.h"
#import "CUDACompiler.h"
#import "CUDAConstants.h"
#import "CUDADevice.h"
#import "metal/base/OBMCompiler.h"
#import "metal/base/OBMError.h"

@implementation CUDALibrary

- (BOOL)hasEntries {
    return NO;
}

- (BOOL)openedFolder:(NSString *)path {
    _cuda = dlsym(_handle, "ob_metallib_cuda");
    if (_cuda != NULL && _cuda->abi != METALLIB_ABI) _cuda = NULL;
    _folder = [[path stringByAppendingPathComponent:@"cuda"] copy];
    _codes = calloc(_library->function_count + 1, sizeof *_codes);
    _specialised = [[NSMutableDictionary alloc] init];
    return _codes != NULL && _specialised != nil;
}

- (void)dealloc {
    for (uint32_t i = 0; _codes != NULL && i < _library->function_count; i++) cuda_code_unload(&_codes[i]);
    free(_codes);
    for (NSMutableData *code in [_specialised allValues]) cuda_code_unload([code mutableBytes]);
    [_specialised release];
    [_folder release];
    [super dealloc];
}

static NSData *contentsOf(NSString *path) { return [NSData dataWithContentsOfFile:path]; }

// The name of a kernel's machine code: its file changes its name with its text.
static NSString *imageName(const metallib_cuda *cuda, const metallib_cuda_function *function, NSArray *macros) {
    NSString *unit = [NSString stringWithUTF8String:cuda->units[function->unit]];
    return [NSString stringWithFormat:@"%@-%u%@.cubin", [unit stringByDeletingPathExtension], function->number,
                                      CUDANameOfMacros(macros)];
}

// Where the cache has a kernel's machine code; nil without a cache that is this user's alone.
- (NSString *)cachedPathOf:(NSString *)name architecture:(NSString *)architecture {
    if (!OBMOpenCache(OBMCacheFolder(), NULL)) return nil;
    NSString *version = [NSString stringWithFormat:@"%d", cuda_compiler_version()];
    NSString *folder = [[OBMCacheFolder() stringByAppendingPathComponent:@"cuda"]
        stringByAppendingPathComponent:[NSString stringWithFormat:@"%@-%@", architecture, version]];
    return [folder stringByAppendingPathComponent:name];
}

// Other processes see all of the file or nothing. A cache that cannot be written costs only time.
static void keep(NSData *image, NSString *path) {
    char name[4096];
    if (path == nil || !OBMMakeFolder([path stringByDeletingLastPathComponent], 0700)) return;
    int length = snprintf(name, sizeof name, "%s.XXXXXX", [path fileSystemRepresentation]);
    int descriptor = length < (int)sizeof name ? mkstemp(name) : -1;
    if (descriptor < 0) return;
    BOOL written = write(descriptor, [image bytes], [image length]) == (ssize_t)[image length];
    close(descriptor);
    if (!written || rename(name, [path fileSystemRepresentation]) != 0) unlink(name);
}

- (NSData *)compile:(const metallib_cuda_function *)function
             macros:(NSArray *)macros
       architecture:(NSString *)architecture
              error:(NSError **)error {
    NSString *unit = [NSString stringWithUTF8String:_cuda->units[function->unit]];
    NSString *path = [_folder stringByAppendingPathComponent:unit];
    NSString *source = [NSString stringWithContentsOfFile:path encoding:NSUTF8StringEncoding error:NULL];
    if (source == nil) {
        OBMSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorFileNotFound,
                    @"%@: cannot be read; compile the library again", path);
        return nil;
    }
    void *image;
    size_t size;
    char *messages;
    const char *options[2 * METALLIB_MAX_CONSTANTS + 1] = {NULL};
    for (NSUInteger i = 0; i < [macros count]; i++) options[i] = [[macros objectAtIndex:i] UTF8String];
    if (!cuda_compile([source UTF8String], [unit UTF8String], function->number, options, [architecture UTF8String],
                      &image, &size, &messages)) {
        OBMSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorCompileFailure, @"%s",
                    messages != NULL ? messages : "NVRTC has no memory left");
        free(messages);
        return nil;
    }
    return [NSData dataWithBytesNoCopy:image length:size freeWhenDone:YES];
}

- (NSData *)imageOf:(const metallib_cuda_function *)function
             macros:(NSArray *)macros
            context:(const cuda_context *)context
              error:(NSError **)error {
    NSString *architecture = [NSString stringWithUTF8String:context->architecture];
    NSString *name = imageName(_cuda, function, macros);
    NSString *built = [[_folder stringByAppendingPathComponent:architecture] stringByAppendingPathComponent:name];
    NSString *cached = [self cachedPathOf:name architecture:architecture];
    NSData *image = contentsOf(built);
    if (image == nil && cached != nil) image = contentsOf(cached);
    if (image != nil) return image;
    image = [self compile:function macros:macros architecture:architecture error:error];
    if (image != nil) keep(image, cached);
    return image;
}

// The place of the code of a function with these macros, loaded or not.
- (cuda_code *)placeOf:(NSUInteger)index macros:(NSArray *)macros {
    if ([macros count] == 0) return &_codes[index];
    NSString *name = imageName(_cuda, &_cuda->functions[index], macros);
    NSMutableData *code = [_specialised objectForKey:name];
    if (code == nil) {
        code = [NSMutableData dataWithLength:sizeof(cuda_code)];
        [_specialised setObject:code forKey:name];
    }
    return [code mutableBytes];
}

- (const void *)codeOfFunction:(const metallib_function *)function
                        values:(const void *const *)values
                         error:(NSError **)error {
    NSUInteger index = (NSUInteger)(function - _library->functions);
    const cuda_context *context = [(CUDADevice *)_device context];
    if (_cuda == NULL) {
        OBMSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorUnsupported,
                    @"the library has no code for GPUs of this version; compile it again");
        return NULL;
    }
    NSArray *macros = CUDAMacrosOfConstants(&function->signature, values);
    @synchronized(self) {
        cuda_code *code = [self placeOf:index macros:macros];
        if (code->function != NULL) return code;
        NSData *image = [self imageOf:&_cuda->functions[index] macros:macros context:context error:error];
        if (image == nil) return NULL;
        if (cuda_driver_forked()) {
            OBMSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorInternal, @"%s", cuda_driver_problem());
            return NULL;
        }
        cuda_enter(context);
        CUresult result = cuda_code_load(code, context, [image bytes], _cuda->functions[index].symbol);
        cuda_leave(context);
        if (result == CUDA_SUCCESS) return code;
        if (cuda_is_broken(result))
            OBMSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorInternal, @"the GPU's driver says: %s%s",
                        cuda_text(result), cuda_cure);
        else
            OBMSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorInternal,
                        @"its machine code cannot be loaded (%s); empty the folder cuda of the cache",
                        cuda_text(result));
        return NULL;
    }
}

@end
