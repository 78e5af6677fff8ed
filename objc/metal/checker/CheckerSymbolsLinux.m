#import "CheckerSymbols.h"

NSArray *CheckerSymbolsCommand(NSString *library, NSArray *addresses) {
    return [[NSArray arrayWithObjects:@"addr2line", @"-a", @"-i", @"-e", library, nil]
        arrayByAddingObjectsFromArray:addresses];
}

NSDictionary *CheckerSymbolsFound(NSString *printed, NSArray *addresses) {
    (void)addresses;  // each stands above its lines
    NSMutableDictionary *found = [NSMutableDictionary dictionary];
    NSMutableArray *frames = nil;
    for (NSString *line in [printed componentsSeparatedByString:@"\n"]) {
        if ([line hasPrefix:@"0x"]) {
            frames = [NSMutableArray array];
            [found setObject:frames forKey:line];
        } else {
            [frames addObject:line];
        }
    }
    return found;
}
