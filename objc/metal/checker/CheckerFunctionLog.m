#import "CheckerFunctionLog.h"

#import "CheckerLines.h"

@implementation CheckerFunctionLog

static NSString *text(const char *bytes) { return [NSString stringWithUTF8String:bytes]; }

static NSString *position(const uint32_t at[3]) {
    return [NSString stringWithFormat:@"%u, %u, %u", at[0], at[1], at[2]];
}

- (void)set:(NSString *)value for:(NSString *)name prefix:(NSString *)prefix {
    if (value != nil) [_details setObject:value forKey:[prefix stringByAppendingString:name]];
}

- (void)addSide:(const check_side *)side lines:(CheckerLines *)lines prefix:(NSString *)prefix {
    if (side->kernel == NULL) return;
    [self set:text(side->kernel) for:@"kernel" prefix:prefix];
    if (side->label != NULL) [self set:text(side->label) for:@"label" prefix:prefix];
    [self set:position(side->thread) for:@"thread" prefix:prefix];
    [self set:position(side->group) for:@"threadgroup" prefix:prefix];
    if (!side->code && (side->pc != 0 || side->write))
        [self set:side->atomic ? side->write ? @"atomic write" : @"atomic read" : side->write ? @"write" : @"read" for:@"access" prefix:prefix];
    if (side->file != NULL && side->line != 0) {
        [self set:text(side->file) for:@"file" prefix:prefix];
        [self set:[NSString stringWithFormat:@"%u", side->line] for:@"line" prefix:prefix];
        return;
    }
    NSArray *frames = side->pc == 0 ? nil : [lines framesOf:side->pc in:text(side->library)];
    if ([frames count] == 0) return;
    NSString *first = [frames objectAtIndex:0];
    NSRange colon = [first rangeOfString:@":" options:NSBackwardsSearch];
    [self set:[first substringToIndex:colon.location] for:@"file" prefix:prefix];
    [self set:[first substringFromIndex:NSMaxRange(colon)] for:@"line" prefix:prefix];
    [self set:[frames componentsJoinedByString:@" "] for:@"frames" prefix:prefix];
}

- (BOOL)isOneLine {
    for (NSString *name in [NSArray arrayWithObjects:@"file", @"line", nil]) {
        NSString *here = [_details objectForKey:name];
        if (here == nil || ![here isEqual:[_details objectForKey:[@"other " stringByAppendingString:name]]]) return NO;
    }
    return YES;
}

// Advice for a race whose two sides are one line, where no barrier can stand between them. It is nil for others.
- (NSString *)remedyOfOneLine:(const check_finding *)finding {
    if (finding->kind != CHECK_RACE || ![self isOneLine]) return nil;
    if (finding->same_value)
        return @"let one thread write it: Metal does not say that equal values may be written at once";
    if (finding->here.write && finding->there.write)
        return @"let one thread write it, or give each an element of its own; if these are turns of a loop, put a "
               @"barrier "
               @"between them";
    NSString *barrier = finding->lanes && !finding->alone ? @"simdgroup_barrier" : @"threadgroup_barrier";
    return [NSString stringWithFormat:@"read into a variable, put %@(mem_flags::mem_%@) there, then write", barrier,
                                      finding->threadgroup ? @"threadgroup" : @"device"];
}

- (id)initWithFinding:(const check_finding *)finding lines:(CheckerLines *)lines {
    self = [super init];
    if (self == nil) return nil;
    _details = [[NSMutableDictionary alloc] init];
    [self set:text(check_kind_name(finding->kind)) for:@"kind" prefix:@""];
    [self set:check_warns(finding) ? @"warning" : @"error" for:@"severity" prefix:@""];
    [self addSide:&finding->here lines:lines prefix:@""];
    [self addSide:&finding->there lines:lines prefix:@"other "];
    if (finding->name[0] != '\0') {
        [self set:text(finding->name) for:@"name" prefix:@""];
        [self set:finding->threadgroup ? @"threadgroup" : @"device" for:@"space" prefix:@""];
        [self set:[NSString stringWithFormat:@"%lld", (long long)finding->offset] for:@"offset" prefix:@""];
        [self set:[NSString stringWithFormat:@"%llu", (unsigned long long)finding->length] for:@"length" prefix:@""];
        if (finding->index >= 0) [self set:[NSString stringWithFormat:@"%d", finding->index] for:@"index" prefix:@""];
    }
    if (finding->size != 0) [self set:[NSString stringWithFormat:@"%u", finding->size] for:@"size" prefix:@""];
    if (finding->text[0] != '\0') [self set:text(finding->text) for:@"text" prefix:@""];
    NSString *own = [self remedyOfOneLine:finding];
    [self set:own != nil ? own : text(check_remedy(finding)) for:@"remedy" prefix:@""];
    [self set:[NSString stringWithFormat:@"%llu", (unsigned long long)finding->count] for:@"count" prefix:@""];
    return self;
}

+ (NSArray *)newLogsOfFindings:(const check_finding *)findings count:(size_t)count {
    CheckerLines *lines = [[CheckerLines alloc] init];
    for (size_t i = 0; i < count; i++) {
        for (int k = 0; k < 2; k++) {
            const check_side *side = k == 0 ? &findings[i].here : &findings[i].there;
            if (side->kernel != NULL && side->pc != 0) [lines want:side->pc in:text(side->library)];
        }
    }
    NSMutableArray *logs = [[NSMutableArray alloc] initWithCapacity:count];
    for (size_t i = 0; i < count; i++) {
        CheckerFunctionLog *log = [[CheckerFunctionLog alloc] initWithFinding:&findings[i] lines:lines];
        [logs addObject:log];
        [log release];
    }
    [lines release];
    return logs;
}

- (void)dealloc {
    [_details release];
    [super dealloc];
}

- (NSDictionary *)details {
    return _details;
}
- (MTLFunctionLogType)type {
    return MTLFunctionLogTypeValidation;
}
- (NSString *)encoderLabel {
    return [_details objectForKey:@"label"];
}
- (id<MTLFunction>)function {
    return nil;
}
- (id<MTLFunctionLogDebugLocation>)debugLocation {
    return [_details objectForKey:@"line"] == nil ? nil : self;
}
- (NSString *)functionName {
    return [_details objectForKey:@"kernel"];
}
- (NSURL *)URL {
    return [NSURL fileURLWithPath:[_details objectForKey:@"file"]];
}
- (NSUInteger)line {
    return (NSUInteger)[[_details objectForKey:@"line"] integerValue];
}
- (NSUInteger)column {
    return 0;
}

- (NSString *)get:(NSString *)name prefix:(NSString *)prefix {
    return [_details objectForKey:[prefix stringByAppendingString:name]];
}

// "reduce.metal:12 writes, thread (3, 0, 0) of threadgroup (0, 0, 0)"
- (NSString *)sideWithPrefix:(NSString *)prefix {
    NSString *file = [self get:@"file" prefix:prefix], *access = [self get:@"access" prefix:prefix];
    NSMutableString *line = [NSMutableString string];
    if (file != nil) [line appendFormat:@"%@:%@", file, [self get:@"line" prefix:prefix]];
    else [line appendFormat:@"kernel '%@'", [self get:@"kernel" prefix:prefix]];
    if (access != nil) [line appendFormat:[access hasPrefix:@"a"] ? @", an %@" : @", a %@", access];
    [line appendFormat:@" by thread (%@) of threadgroup (%@)", [self get:@"thread" prefix:prefix],
                       [self get:@"threadgroup" prefix:prefix]];
    return line;
}

- (NSString *)description {
    NSMutableString *out = [NSMutableString
        stringWithFormat:@"%@: kernel '%@'", [_details objectForKey:@"kind"], [_details objectForKey:@"kernel"]];
    NSString *label = [_details objectForKey:@"label"];
    if (label != nil && ![label isEqualToString:[_details objectForKey:@"kernel"]]) [out appendFormat:@" (%@)", label];
    NSString *name = [_details objectForKey:@"name"], *index = [_details objectForKey:@"index"];
    if (name != nil) {
        BOOL group = [[_details objectForKey:@"space"] isEqualToString:@"threadgroup"];
        [out appendFormat:@", '%@'", name];
        if (index != nil) [out appendFormat:@" at %@ index %@", group ? @"threadgroup" : @"buffer", index];
        else if (group) [out appendString:@" in threadgroup memory"];
        if ([_details objectForKey:@"size"] != nil)
            [out appendFormat:@", %@ bytes at offset %@ of %@", [_details objectForKey:@"size"],
                              [_details objectForKey:@"offset"], [_details objectForKey:@"length"]];
    }
    if ([_details objectForKey:@"text"] != nil) [out appendFormat:@": %@", [_details objectForKey:@"text"]];
    [out appendFormat:@"\n  %@", [self sideWithPrefix:@""]];
    if ([_details objectForKey:@"other kernel"] != nil) {
        [out appendFormat:@"\n  %@", [self sideWithPrefix:@"other "]];
        if (![[_details objectForKey:@"other kernel"] isEqualToString:[_details objectForKey:@"kernel"]])
            [out appendFormat:@" of kernel '%@'", [_details objectForKey:@"other kernel"]];
    }
    if (![[_details objectForKey:@"count"] isEqualToString:@"1"])
        [out appendFormat:@"\n  %@ times in all", [_details objectForKey:@"count"]];
    [out appendFormat:@"\n  To fix it: %@.", [_details objectForKey:@"remedy"]];
    return out;
}

@end
