// Opens each library named on the command line, one a line: "opened avx2.so" or "error CODE TEXT".
// A name that ends in .metal is compiled from source; NAME=VALUE sets a macro for those after it.
#import "check.h"

static NSString *readText(const char *path) {
    NSData *data = [NSData dataWithContentsOfFile:[NSString stringWithUTF8String:path]];
    return [[[NSString alloc] initWithData:data encoding:NSUTF8StringEncoding] autorelease];
}

int main(int count, char **words) {
    NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
    id<MTLDevice> device = nil;
    @try {
        device = MTLCreateSystemDefaultDevice();
    } @catch (NSException *exception) {
        printf("exception %s\n", [[exception reason] UTF8String]);
        return 0;
    }
    printf("threads %lu\n", (unsigned long)[(id<OBThreadedDevice>)device workerThreadCount]);
    NSMutableDictionary *macros = [NSMutableDictionary dictionary];
    for (int i = 1; i < count; i++) {
        NSError *error = nil;
        id<MTLLibrary> library = nil;
        NSArray *pair = [[NSString stringWithUTF8String:words[i]] componentsSeparatedByString:@"="];
        if ([pair count] == 2) {
            [macros setObject:[pair objectAtIndex:1] forKey:[pair objectAtIndex:0]];
            continue;
        }
        if ([[pair objectAtIndex:0] hasSuffix:@".metal"]) {
            MTLCompileOptions *options = [[[MTLCompileOptions alloc] init] autorelease];
            [options setPreprocessorMacros:macros];
            library = [device newLibraryWithSource:readText(words[i]) options:options error:&error];
        } else {
            library = [device newLibraryWithURL:[NSURL fileURLWithPath:[pair objectAtIndex:0]] error:&error];
        }
        if (library != nil) {
            printf("opened %s\n", [[[library functionNames] componentsJoinedByString:@" "] UTF8String]);
        } else {
            printf("error %s %ld %s\n", [[error domain] UTF8String], (long)[error code],
                   [[error localizedDescription] UTF8String]);
        }
        [library release];
    }
    [device release];
    [pool drain];
    return 0;
}
