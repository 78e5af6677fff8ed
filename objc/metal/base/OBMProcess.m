#import "OBMProcess.h"

#import <errno.h>
#import <fcntl.h>
#import <spawn.h>
#import <stdlib.h>
#import <sys/wait.h>
#import <unistd.h>

#import "OBMHost.h"

NSArray *OBMWordsOf(NSString *command) {
    NSMutableArray *words = [NSMutableArray array];
    NSMutableString *word = nil;  // nil between words
    unichar quote = 0;
    for (NSUInteger i = 0; i < [command length]; i++) {
        unichar c = [command characterAtIndex:i];
        if (quote == 0 && (c == ' ' || c == '\t' || c == '\n')) {
            if (word != nil) [words addObject:word];
            word = nil;
            continue;
        }
        if (word == nil) word = [NSMutableString string];
        if (c == quote) {
            quote = 0;
        } else if (quote == 0 && (c == '\'' || c == '"')) {
            quote = c;
        } else {
            if (c == '\\' && quote != '\'' && i + 1 < [command length]) c = [command characterAtIndex:++i];
            [word appendFormat:@"%C", c];
        }
    }
    if (word != nil) [words addObject:word];
    return words;
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
    int problem = posix_spawnp(child, arguments[0], &actions, NULL, arguments, obm_host_environment());
    posix_spawn_file_actions_destroy(&actions);
    free(arguments);
    return problem;
}

int OBMRunProgram(NSArray *words, NSString **text) {
    int ends[2];
    *text = @"";
    if ([words count] == 0 || !obm_host_pipe(ends)) return -1;
    pid_t child;
    int problem = spawn(words, ends[1], &child);
    close(ends[1]);
    NSData *output = problem == 0 ? readAll(ends[0]) : [NSData data];
    close(ends[0]);
    if (problem != 0) return -1;
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
    NSString *decoded = [[[NSString alloc] initWithData:output encoding:NSUTF8StringEncoding] autorelease];
    *text = decoded != nil ? decoded
                           : [[[NSString alloc] initWithData:output encoding:NSISOLatin1StringEncoding] autorelease];
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
