#define _GNU_SOURCE
#import "CUDALibrary.h"

#import <dlfcn.h>
#import <stdio.h>
#import <stdlib.h>
#import <string.h>
#import <unistd.h>

#import "CUDACode.h"
#import "CUDACompiler.h"
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
    return _codes != NULL;
}

- (void)dealloc {
    for (uint32_t i = 0; _codes != NULL && i < _library->function_count; i++) cuda_code_unload(&_codes[i]);
    free(_codes);
    [_folder release];
    [super dealloc];
}

- (const void *)codeOfFunction:(const metallib_function *)function {
    return &_codes[function - _library->functions];
}

static NSData *contentsOf(NSString *path) { return [NSData dataWithContentsOfFile:path]; }

// The name of a kernel's machine code: its file changes its name with its text.
static NSString *imageName(const metallib_cuda *cuda, const metallib_cuda_function *function) {
    NSString *unit = [NSString stringWithUTF8String:cuda->units[function->unit]];
    return [NSString stringWithFormat:@"%@-%u.cubin", [unit stringByDeletingPathExtension], function->number];
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
    if (!cuda_compile([source UTF8String], [unit UTF8String], function->number, [architecture UTF8String], &image,
                      &size, &messages)) {
        OBMSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorCompileFailure, @"%s",
                    messages != NULL ? messages : "NVRTC has no memory left");
        free(messages);
        return nil;
    }
    return [NSData dataWithBytesNoCopy:image length:size freeWhenDone:YES];
}

- (NSData *)imageOf:(const metallib_cuda_function *)function
            context:(const cuda_context *)context
              error:(NSError **)error {
    NSString *architecture = [NSString stringWithUTF8String:context->architecture];
    NSString *name = imageName(_cuda, function);
    NSString *built = [[_folder stringByAppendingPathComponent:architecture] stringByAppendingPathComponent:name];
    NSString *cached = [self cachedPathOf:name architecture:architecture];
    NSData *image = contentsOf(built);
    if (image == nil && cached != nil) image = contentsOf(cached);
    if (image != nil) return image;
    image = [self compile:function architecture:architecture error:error];
    if (image != nil) keep(image, cached);
    return image;
}

- (BOOL)makeReady:(const metallib_function *)function error:(NSError **)error {
    NSUInteger index = (NSUInteger)(function - _library->functions);
    const cuda_context *context = [(CUDADevice *)_device context];
    if (_cuda == NULL) {
        OBMSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorUnsupported,
                    @"the library has no code for GPUs of this version; compile it again");
        return NO;
    }
    @synchronized(self) {
        if (_codes[index].function != NULL) return YES;
        NSData *image = [self imageOf:&_cuda->functions[index] context:context error:error];
        if (image == nil) return NO;
        if (cuda_driver_forked()) {
            OBMSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorInternal, @"%s", cuda_driver_problem());
            return NO;
        }
        cuda_enter(context);
        CUresult result = cuda_code_load(&_codes[index], context, [image bytes], _cuda->functions[index].symbol);
        cuda_leave(context);
        if (result == CUDA_SUCCESS) return YES;
        if (cuda_is_broken(result))
            OBMSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorInternal, @"the GPU's driver says: %s%s",
                        cuda_text(result), cuda_cure);
        else
            OBMSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorInternal,
                        @"its machine code cannot be loaded (%s); empty the folder cuda of the cache",
                        cuda_text(result));
        return NO;
    }
}

@end
