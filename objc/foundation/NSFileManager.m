#define _GNU_SOURCE
#import <Foundation/Foundation.h>
#import <errno.h>
#import <ftw.h>

static int removeOne(const char *path, const struct stat *status, int kind, struct FTW *place) {
    (void)status, (void)kind, (void)place;
    return remove(path);
}

@implementation NSFileManager

+ (NSFileManager *)defaultManager {
    return [[[self alloc] init] autorelease];
}

- (BOOL)removeItemAtPath:(NSString *)path error:(NSError **)error {
    if (nftw([path fileSystemRepresentation], removeOne, 16, FTW_DEPTH | FTW_PHYS) == 0) return YES;
    if (error != NULL) {
        NSString *text = [NSString stringWithFormat:@"%@: %s", path, strerror(errno)];
        *error = [NSError errorWithDomain:NSPOSIXErrorDomain
                                     code:errno
                                 userInfo:[NSDictionary dictionaryWithObject:text forKey:NSLocalizedDescriptionKey]];
    }
    return NO;
}

@end
