#define _GNU_SOURCE
#import "OBMCompiler.h"

#import <errno.h>
#import <stdlib.h>
#import <string.h>
#import <sys/stat.h>
#import <unistd.h>

#import "OBMDevice.h"
#import "OBMDigest.h"
#import "OBMError.h"
#import "OBMProcess.h"

static NSString *environmentText(const char *name) {
    const char *text = getenv(name);
    return text == NULL || *text == '\0' ? nil : [NSString stringWithUTF8String:text];
}

static NSArray *compilerCommand(void) {
    NSString *text = environmentText("OB_METALC");
    return OBMWordsOf(text != nil ? text : @"python3 -I -m pipeline.metalc");
}

NSString *OBMCacheFolder(void) {
    NSString *folder = environmentText("OB_CACHE");
    if (folder != nil) return folder;
    folder = environmentText("XDG_CACHE_HOME");
    if (folder == nil) folder = [environmentText("HOME") stringByAppendingPathComponent:@".cache"];
    return [folder stringByAppendingPathComponent:@"onebuf"];
}

BOOL OBMMakeFolder(NSString *path, mode_t mode) {
    if (mkdir([path fileSystemRepresentation], mode) == 0 || errno == EEXIST) return YES;
    if (errno != ENOENT || [path length] < 2) return NO;
    if (!OBMMakeFolder([path stringByDeletingLastPathComponent], 0777)) return NO;
    return mkdir([path fileSystemRepresentation], mode) == 0 || errno == EEXIST;
}

// Whether no other user can put files there: what is in the cache is loaded and run.
static BOOL isPrivate(NSString *path) {
    struct stat status;
    if (lstat([path fileSystemRepresentation], &status) != 0 || !S_ISDIR(status.st_mode)) return NO;
    return status.st_uid == geteuid() && (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

BOOL OBMOpenCache(NSString *cache, NSError **error) {
    if (cache == nil) {
        OBMSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorInternal,
                    @"there is no folder for compiled shaders; set OB_CACHE to one, or HOME");
    } else if (!OBMMakeFolder(cache, 0700)) {
        OBMSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorInternal,
                    @"%@: the cache cannot be written (%s); set OB_CACHE to a folder that can", cache, strerror(errno));
    } else if (!isPrivate(cache)) {
        OBMSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorInternal,
                    @"%@: the cache is not used, because other users may put code there; set OB_CACHE to a folder of "
                    @"your own that only you can write (chmod go-w)",
                    cache);
    } else {
        return YES;
    }
    return NO;
}

static NSString *compilerVersion(NSArray *command, NSMutableDictionary *versions, NSError **error) {
    NSString *key = [command componentsJoinedByString:@" "];
    @synchronized(versions) {
        NSString *version = [[[versions objectForKey:key] retain] autorelease];
        if (version != nil) return version;
    }
    NSString *version;
    if (OBMRunProgram([command arrayByAddingObject:@"--version"], &version) != 0) {
        OBMSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorInternal,
                    @"the shader compiler '%@' does not run; set OB_METALC to a command that does. %@", key, version);
        return nil;
    }
    @synchronized(versions) {
        [versions setObject:version forKey:key];
    }
    return version;
}

// Lines count from the caller's first, in a file that is called source.metal.
static NSString *sourceWithMacros(NSString *source, MTLCompileOptions *options) {
    NSDictionary *macros = [options preprocessorMacros];
    NSMutableString *text = [NSMutableString string];
    for (NSString *name in [[macros allKeys] sortedArrayUsingSelector:@selector(compare:)]) {
        [text appendFormat:@"#define %@ %@\n", name, [macros objectForKey:name]];
    }
    [text appendFormat:@"#line 1 \"source.metal\"\n%@", source];
    return text;
}

static NSString *hexDigest(NSString *text) {
    NSData *data = [text dataUsingEncoding:NSUTF8StringEncoding];
    char hex[OBM_DIGEST_TEXT];
    obm_digest([data bytes], [data length], hex);
    return [NSString stringWithUTF8String:hex];
}

static BOOL writeFile(NSString *path, NSString *text) {
    NSData *data = [text dataUsingEncoding:NSUTF8StringEncoding];
    FILE *file = fopen([path fileSystemRepresentation], "wb");
    if (file == NULL) return NO;
    BOOL written = fwrite([data bytes], 1, [data length], file) == [data length];
    return fclose(file) == 0 && written;
}

// Compiles in a folder of its own, and moves the result to its place in one step, so that other
// processes see all of it or nothing.
static BOOL compileTo(NSString *target, NSString *source, NSString *isa, NSArray *command, NSString *folder,
                      NSError **error) {
    NSString *input = [folder stringByAppendingPathComponent:@"source.metal"];
    NSString *output = [folder stringByAppendingPathComponent:@"out.metallib"];
    if (!writeFile(input, source)) {
        OBMSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorInternal, @"%@: cannot be written (%s)", input,
                    strerror(errno));
        return NO;
    }
    NSMutableArray *words = [NSMutableArray arrayWithArray:command];
    [words addObjectsFromArray:[NSArray arrayWithObjects:@"--isa", isa, @"-o", output, input, nil]];
    NSString *messages;
    int status = OBMRunProgram(words, &messages);
    if (status != 0) {
        messages = [messages stringByTrimmingCharactersInSet:[NSCharacterSet whitespaceAndNewlineCharacterSet]];
        if ([messages length] == 0)
            messages =
                [NSString stringWithFormat:@"the shader compiler '%@' failed", [command componentsJoinedByString:@" "]];
        messages = [messages stringByReplacingOccurrencesOfString:input withString:@"source.metal"];
        OBMSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorCompileFailure, @"%@", messages);
        return NO;
    }
    if (rename([output fileSystemRepresentation], [target fileSystemRepresentation]) == 0) return YES;
    if (errno == ENOTEMPTY || errno == EEXIST) return YES;  // another process was first, with the same
    OBMSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorInternal, @"%@: cannot be written (%s)", target,
                strerror(errno));
    return NO;
}

NSString *OBMCompileSource(NSString *source, MTLCompileOptions *options, OBMDevice *device, NSError **error) {
    NSArray *wanted = [device objectNames:error];
    if ([wanted count] == 0) return nil;
    NSString *isa = [wanted objectAtIndex:0];
    NSArray *command = compilerCommand();
    NSString *version = compilerVersion(command, [device compilerVersions], error);
    if (version == nil) return nil;
    NSString *text = sourceWithMacros(source, options);
    NSString *key = hexDigest(
        [NSString stringWithFormat:@"%@\n%@\n%@\n%@", isa, [command componentsJoinedByString:@" "], version, text]);
    NSString *cache = OBMCacheFolder();
    if (!OBMOpenCache(cache, error)) return nil;
    NSString *target = [cache stringByAppendingPathComponent:[key stringByAppendingString:@".metallib"]];
    NSString *object = [target stringByAppendingPathComponent:[isa stringByAppendingString:@".so"]];
    if (access([object fileSystemRepresentation], R_OK) == 0) return target;
    char folder[4096];
    snprintf(folder, sizeof folder, "%s/compile.XXXXXX", [cache fileSystemRepresentation]);
    if (mkdtemp(folder) == NULL) {
        OBMSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorInternal,
                    @"%@: the cache cannot be written (%s); set OB_CACHE to a folder that can", cache, strerror(errno));
        return nil;
    }
    NSString *work = [NSString stringWithUTF8String:folder];
    BOOL compiled = compileTo(target, text, isa, command, work, error);
    [[NSFileManager defaultManager] removeItemAtPath:work error:NULL];
    return compiled ? target : nil;
}
