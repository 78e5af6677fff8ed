#define _GNU_SOURCE
#import "CPUCompiler.h"

#import <errno.h>
#import <fcntl.h>
#import <spawn.h>
#import <stdlib.h>
#import <string.h>
#import <sys/stat.h>
#import <sys/wait.h>
#import <unistd.h>

#import "CPUError.h"
#import "CPUISA.h"

extern char **environ;

static NSString *environmentText(const char *name) {
    const char *text = getenv(name);
    return text == NULL || *text == '\0' ? nil : [NSString stringWithUTF8String:text];
}

static NSArray *compilerCommand(void) {
    NSString *text = environmentText("OB_METALC");
    if (text == nil) text = @"python3 -m pipeline.metalc";
    NSMutableArray *words = [NSMutableArray array];
    for (NSString *word in
         [text componentsSeparatedByCharactersInSet:[NSCharacterSet whitespaceCharacterSet]]) {
        if ([word length] > 0) [words addObject:word];
    }
    return words;
}

static NSString *cacheFolder(void) {
    NSString *folder = environmentText("OB_CACHE");
    if (folder != nil) return folder;
    folder = environmentText("XDG_CACHE_HOME");
    if (folder == nil) folder = [environmentText("HOME") stringByAppendingPathComponent:@".cache"];
    return [folder stringByAppendingPathComponent:@"onebuf"];
}

static BOOL makeFolder(NSString *path) {
    if (mkdir([path fileSystemRepresentation], 0777) == 0 || errno == EEXIST) return YES;
    if (errno != ENOENT || [path length] < 2) return NO;
    return makeFolder([path stringByDeletingLastPathComponent]) &&
           mkdir([path fileSystemRepresentation], 0777) == 0;
}

static NSData *readAll(int descriptor) {
    NSMutableData *data = [NSMutableData data];
    char bytes[4096];
    for (;;) {
        ssize_t count = read(descriptor, bytes, sizeof bytes);
        if (count > 0) [data appendBytes:bytes length:(NSUInteger)count];
        else if (count == 0 || errno != EINTR) return data;
    }
}

static int spawn(NSArray *words, int output, pid_t *child) {
    char **arguments = calloc([words count] + 1, sizeof *arguments);
    if (arguments == NULL) return ENOMEM;
    for (NSUInteger i = 0; i < [words count]; i++)
        arguments[i] = (char *)[[words objectAtIndex:i] fileSystemRepresentation];
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
    int problem = posix_spawnp(child, arguments[0], &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    free(arguments);
    return problem;
}

// Runs a command and returns its exit status with all its output; -1 if it could not start.
static int run(NSArray *words, NSString **text) {
    int ends[2];
    *text = @"";
    if ([words count] == 0 || pipe2(ends, O_CLOEXEC) != 0) return -1;
    pid_t child;
    int problem = spawn(words, ends[1], &child);
    close(ends[1]);
    NSData *output = problem == 0 ? readAll(ends[0]) : [NSData data];
    close(ends[0]);
    if (problem != 0) return -1;
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    NSString *decoded = [[[NSString alloc] initWithData:output encoding:NSUTF8StringEncoding] autorelease];
    *text = decoded != nil
                ? decoded
                : [[[NSString alloc] initWithData:output encoding:NSISOLatin1StringEncoding] autorelease];
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static NSString *compilerVersion(NSArray *command, NSMutableDictionary *versions, NSError **error) {
    NSString *key = [command componentsJoinedByString:@" "];
    @synchronized(versions) {
        NSString *version = [[[versions objectForKey:key] retain] autorelease];
        if (version != nil) return version;
    }
    NSString *version;
    if (run([command arrayByAddingObject:@"--version"], &version) != 0) {
        CPUSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorInternal,
                    @"the shader compiler '%@' does not run; set OB_METALC to a command that does. %@", key,
                    version);
        return nil;
    }
    @synchronized(versions) {
        [versions setObject:version forKey:key];
    }
    return version;
}

static NSString *sourceWithMacros(NSString *source, MTLCompileOptions *options) {
    NSDictionary *macros = [options preprocessorMacros];
    if ([macros count] == 0) return source;
    NSMutableString *text = [NSMutableString string];
    for (NSString *name in [[macros allKeys] sortedArrayUsingSelector:@selector(compare:)]) {
        [text appendFormat:@"#define %@ %@\n", name, [macros objectForKey:name]];
    }
    [text appendFormat:@"#line 1 \"source.metal\"\n%@", source];
    return text;
}

static NSString *hexDigest(NSString *text) {
    NSData *digest = [[text dataUsingEncoding:NSUTF8StringEncoding] md5Digest];
    NSMutableString *hex = [NSMutableString string];
    for (NSUInteger i = 0; i < [digest length]; i++)
        [hex appendFormat:@"%02x", ((const uint8_t *)[digest bytes])[i]];
    return hex;
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
        CPUSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorInternal, @"%@: cannot be written (%s)", input,
                    strerror(errno));
        return NO;
    }
    NSMutableArray *words = [NSMutableArray arrayWithArray:command];
    [words addObjectsFromArray:[NSArray arrayWithObjects:@"--isa", isa, @"-o", output, input, nil]];
    NSString *messages;
    int status = run(words, &messages);
    if (status != 0) {
        messages = [messages stringByTrimmingCharactersInSet:[NSCharacterSet whitespaceAndNewlineCharacterSet]];
        if ([messages length] == 0)
            messages = [NSString
                stringWithFormat:@"the shader compiler '%@' failed", [command componentsJoinedByString:@" "]];
        messages = [messages stringByReplacingOccurrencesOfString:input withString:@"source.metal"];
        CPUSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorCompileFailure, @"%@", messages);
        return NO;
    }
    if (rename([output fileSystemRepresentation], [target fileSystemRepresentation]) == 0) return YES;
    if (errno == ENOTEMPTY || errno == EEXIST) return YES;  // another process was first, with the same
    CPUSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorInternal, @"%@: cannot be written (%s)", target,
                strerror(errno));
    return NO;
}

NSString *CPUCompileSource(NSString *source, MTLCompileOptions *options, NSMutableDictionary *versions,
                           NSError **error) {
    NSString *isa = [CPUWantedISAs(error) count] > 0 ? [CPUWantedISAs(NULL) objectAtIndex:0] : nil;
    if (isa == nil) return nil;
    NSArray *command = compilerCommand();
    NSString *version = compilerVersion(command, versions, error);
    if (version == nil) return nil;
    NSString *text = sourceWithMacros(source, options);
    NSString *key = hexDigest([NSString
        stringWithFormat:@"%@\n%@\n%@\n%@", isa, [command componentsJoinedByString:@" "], version, text]);
    NSString *cache = cacheFolder();
    NSString *target = [cache stringByAppendingPathComponent:[key stringByAppendingString:@".metallib"]];
    NSString *object = [target stringByAppendingPathComponent:[isa stringByAppendingString:@".so"]];
    if (access([object fileSystemRepresentation], R_OK) == 0) return target;
    char folder[4096];
    snprintf(folder, sizeof folder, "%s/compile.XXXXXX", [cache fileSystemRepresentation]);
    if (!makeFolder(cache) || mkdtemp(folder) == NULL) {
        CPUSetError(error, MTLLibraryErrorDomain, MTLLibraryErrorInternal,
                    @"%@: the cache cannot be written (%s); set OB_CACHE to a folder that can", cache,
                    strerror(errno));
        return nil;
    }
    NSString *work = [NSString stringWithUTF8String:folder];
    BOOL compiled = compileTo(target, text, isa, command, work, error);
    [[NSFileManager defaultManager] removeItemAtPath:work error:NULL];
    return compiled ? target : nil;
}
