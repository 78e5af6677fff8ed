#import "CheckerLines.h"

#import "CheckerSymbols.h"
#import "metal/base/OBMProcess.h"

@implementation CheckerLines

- (id)init {
    self = [super init];
    if (self == nil) return nil;
    _wanted = [[NSMutableDictionary alloc] init];
    _found = [[NSMutableDictionary alloc] init];
    return self;
}

- (void)dealloc {
    [_wanted release];
    [_found release];
    [super dealloc];
}

static NSString *address(uint32_t pc) { return [NSString stringWithFormat:@"0x%016x", pc - 1]; }

- (void)want:(uint32_t)pc in:(NSString *)library {
    NSMutableSet *set = [_wanted objectForKey:library];
    if (set == nil) {
        set = [NSMutableSet set];
        [_wanted setObject:set forKey:library];
    }
    [set addObject:address(pc)];
}

// A place in the shader's own text, as "file:line"; nil for what comes with the compiler.
static NSString *place(NSString *line) {
    NSRange note = [line rangeOfString:@" (discriminator"];
    if (note.location != NSNotFound) line = [line substringToIndex:note.location];
    if ([line rangeOfString:@":"].location == NSNotFound || [line hasPrefix:@"??"] || [line hasSuffix:@":?"] ||
        [line hasSuffix:@":0"])
        return nil;
    NSArray *own =
        [NSArray arrayWithObjects:@"/metal_stdlib/", @"/metal_checker/", @"<generated>", @"shader.cpp:", nil];
    for (NSString *part in own) {
        if ([line rangeOfString:part].location != NSNotFound) return nil;
    }
    while ([line hasPrefix:@"./"]) line = [line substringFromIndex:2];
    return line;
}

- (void)lookUp:(NSString *)library {
    NSMutableDictionary *found = [NSMutableDictionary dictionary];
    [_found setObject:found forKey:library];
    NSArray *addresses = [[_wanted objectForKey:library] allObjects];
    NSString *text;
    if (OBMRunProgram(CheckerSymbolsCommand(library, addresses), &text) != 0) return;
    NSDictionary *printed = CheckerSymbolsFound(text, addresses);
    for (NSString *each in printed) {
        NSMutableArray *frames = [NSMutableArray array];
        for (NSString *line in [printed objectForKey:each]) {
            if (place(line) != nil) [frames addObject:place(line)];
        }
        [found setObject:frames forKey:each];
    }
}

- (NSArray *)framesOf:(uint32_t)pc in:(NSString *)library {
    if ([_found objectForKey:library] == nil) [self lookUp:library];
    return [[_found objectForKey:library] objectForKey:address(pc)];
}

@end
