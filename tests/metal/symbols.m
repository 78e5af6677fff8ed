// What `atos` of a Mac prints, read on any system: tests/support/metal_harness.py links the Mac's CheckerSymbols.
#import "check.h"

#import "metal/checker/CheckerSymbols.h"

static void lines(fixture *f) {
    NSArray *addresses = [NSArray arrayWithObjects:@"0x10", @"0x20", @"0x30", @"0x40", nil];
    NSString *printed =
        @"piece(float) (in checker.so) (/a folder/pieces.h:12)\tscan (in checker.so) (/x/scan.metal:7)\n"
        @"0x20\n"
        @"lonely (in checker.so) + 4\n"
        @"scan (in checker.so) (scan.metal:9)\n";
    NSDictionary *found = CheckerSymbolsFound(printed, addresses);
    NSArray *inlined = [NSArray arrayWithObjects:@"/a folder/pieces.h:12", @"/x/scan.metal:7", nil];
    CHECK(f, "calls that were inlined", [[found objectForKey:@"0x10"] isEqual:inlined]);
    CHECK_EQUAL(f, "an address without a name", [[found objectForKey:@"0x20"] count], 0);
    CHECK_EQUAL(f, "a name without a line", [[found objectForKey:@"0x30"] count], 0);
    CHECK(f, "a line", [[found objectForKey:@"0x40"] isEqual:[NSArray arrayWithObject:@"scan.metal:9"]]);
    CHECK_EQUAL(f, "fewer lines than addresses", [CheckerSymbolsFound(@"0x10", addresses) count], 1);
}

static void command(fixture *f) {
    NSArray *words = CheckerSymbolsCommand(@"/nowhere/checker.so", [NSArray arrayWithObject:@"0x10"]);
    CHECK(f, "atos looks up", [[words objectAtIndex:0] isEqual:@"atos"] && [[words lastObject] isEqual:@"0x10"]);
    CHECK(f, "in the library", [words containsObject:@"/nowhere/checker.so"]);
}

int main(void) {
    NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
    fixture f = {0};
    lines(&f);
    command(&f);
    [pool drain];
    return f.failed;
}
