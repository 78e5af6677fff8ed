#import <unistd.h>

#import "CheckerSymbols.h"

// The linker leaves what debuggers read in the objects; the shader compiler collects it in a file beside the library.
NSArray *CheckerSymbolsCommand(NSString *library, NSArray *addresses) {
    NSString *collected = [library stringByAppendingString:@".dwarf"];
    NSString *file = access([collected fileSystemRepresentation], R_OK) == 0 ? collected : library;
    return [[NSArray arrayWithObjects:@"atos", @"-i", @"-fullPath", @"-d", @"\t", @"-offset", @"-o", file, nil]
        arrayByAddingObjectsFromArray:addresses];
}

// "function (in library) (path/file.metal:12)"; nil without a file.
static NSString *placeIn(NSString *frame) {
    NSRange open = [frame rangeOfString:@" (" options:NSBackwardsSearch];
    if (open.location == NSNotFound || ![frame hasSuffix:@")"]) return nil;
    NSString *rest = [frame substringFromIndex:NSMaxRange(open)];
    return [rest substringToIndex:[rest length] - 1];
}

// A line for each address, in their order, with tabs between frames.
NSDictionary *CheckerSymbolsFound(NSString *printed, NSArray *addresses) {
    NSMutableDictionary *found = [NSMutableDictionary dictionary];
    NSArray *lines = [printed componentsSeparatedByString:@"\n"];
    for (NSUInteger i = 0; i < [addresses count] && i < [lines count]; i++) {
        NSMutableArray *frames = [NSMutableArray array];
        for (NSString *frame in [[lines objectAtIndex:i] componentsSeparatedByString:@"\t"]) {
            if (placeIn(frame) != nil) [frames addObject:placeIn(frame)];
        }
        [found setObject:frames forKey:[addresses objectAtIndex:i]];
    }
    return found;
}
