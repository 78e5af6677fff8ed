// The part of Foundation in objc/foundation: what it promises, beside the C library or a plain model where there is one.
// Prints one line per check.
#import <Foundation/Foundation.h>
#import <objc/runtime.h>
#import <pthread.h>

static int failed;

static void check(const char *name, BOOL passed) {
    printf("%s %s\n", passed ? "ok" : "FAILED", name);
    failed += !passed;
}

static BOOL same(NSString *got, const char *expected) {
    if (got != nil && strcmp([got UTF8String], expected) == 0) return YES;
    fprintf(stderr, "'%s', not '%s'\n", [got UTF8String], expected);
    return NO;
}

#define RAISES(expected, ...)                              \
    ({                                                     \
        BOOL raised_ = NO;                                 \
        @try {                                             \
            __VA_ARGS__;                                   \
        } @catch (NSException * e) {                       \
            raised_ = [[e name] isEqualToString:expected]; \
        }                                                  \
        raised_;                                           \
    })

static int alive;

@interface Counted : NSObject
@end
@interface NSObject (Missing)
- (id)missing;
@end
@implementation Counted
- (id)init {
    __atomic_fetch_add(&alive, 1, __ATOMIC_RELAXED);
    return self;
}
- (void)dealloc {
    __atomic_fetch_sub(&alive, 1, __ATOMIC_RELAXED);
    [super dealloc];
}
@end

@interface Left : Counted {
@public
    BOOL last;
}
@end
@implementation Left
- (void)dealloc {
    if (!last) {
        Left *next = [[[Left alloc] init] autorelease];
        next->last = YES;
    }
    [super dealloc];
}
@end

static void objects(void) {
    Counted *object = [[Counted alloc] init];
    check("a new object has one reference", [object retainCount] == 1);
    check("its fields are zero", ((Left *)[[[Left alloc] init] autorelease])->last == NO);
    [object retain];
    [object release];
    check("it lives as long as somebody has it", [object retainCount] == 1);
    check("it is of its class and of those above", [object isKindOfClass:[NSObject class]] &&
                                                       [object isKindOfClass:[Counted class]] &&
                                                       ![object isKindOfClass:[NSString class]]);
    check("it responds to what it has",
          [object respondsToSelector:@selector(init)] && ![object respondsToSelector:@selector(missing)]);
    check("what it does not have raises", RAISES(NSInvalidArgumentException, [object missing]));
    check("a class does, too",
          RAISES(NSInvalidArgumentException, [[Counted class] performSelector:@selector(missing)]));
    check("protocols of classes above are its own",
          [@"" conformsToProtocol:@protocol(NSCopying)] && ![object conformsToProtocol:@protocol(NSCopying)]);
    check("selectors have names", same(NSStringFromSelector(@selector(setObject:forKey:)), "setObject:forKey:"));
    int before = alive;
    [object release];
    check("the last release ends it", alive == before - 1);
}

static void pools(void) {
    int before = alive;
    NSAutoreleasePool *outer = [[NSAutoreleasePool alloc] init];
    for (int i = 0; i < 1000; i++) [[[Counted alloc] init] autorelease];
    NSAutoreleasePool *inner = [[NSAutoreleasePool alloc] init];
    [[[Counted alloc] init] autorelease];
    check("a pool keeps what is autoreleased", alive == before + 1001);
    [inner drain];
    check("an inner pool gives back its own", alive == before + 1000);
    for (int i = 0; i < 10; i++) {
        [[NSAutoreleasePool alloc] init];
        [[[Left alloc] init] autorelease];
    }
    [outer drain];
    check("pools that were left behind, and what is autoreleased on the way, go as well", alive == before);
}

static void *shareOne(void *object) {
    NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
    for (int i = 0; i < 20000; i++) {
        [(id)object retain];
        if (i % 2 == 0) [(id)object autorelease];
        else [(id)object release];
    }
    [pool drain];
    return NULL;
}

static void threads(void) {
    int before = alive;
    Counted *object = [[Counted alloc] init];
    pthread_t made[4];
    for (int i = 0; i < 4; i++) pthread_create(&made[i], NULL, shareOne, object);
    for (int i = 0; i < 4; i++) pthread_join(made[i], NULL);
    check("threads count references together", [object retainCount] == 1);
    [object release];
    check("and end the object once", alive == before);
}

static void formats(void) {
    char expected[512];
#define FORMAT(text, ...)                                   \
    snprintf(expected, sizeof expected, text, __VA_ARGS__); \
    check("as printf: " text, same([NSString stringWithFormat:@text, __VA_ARGS__], expected))
    FORMAT("%d %5d %-5d| %05d %+d %i", 1, -2, 3, 4, 5, -6);
    FORMAT("%u %x %#X %o %lu %llx %zu %td", 7u, 8u, 9u, 10u, 11ul, 12ull, (size_t)13, (ptrdiff_t)-14);
    FORMAT("%ld %lld %hd %hhu", -1l, LLONG_MIN, (short)-3, (unsigned char)250);
    FORMAT("%s|%10s|%-10s|%.2s|%.*s|%*s", "a", "b", "c", "defg", 3, "hijkl", 6, "m");
    FORMAT("%f %.3f %10.2e %g %a %.1f%%", 1.5, 2.25, 3e10, 4e-10, 5.0, 6.0);
    FORMAT("%c%c%%", 'x', 'y');
    char longest[300];
    memset(longest, 'l', sizeof longest);
    longest[299] = '\0';
    FORMAT("%s!", longest);
    check("%@ is a description", same([NSString stringWithFormat:@"<%@|%5@|%@>", @"a", @"b", nil], "<a|    b|(null)>"));
    check("%C joins halves of a pair",
          same([NSString stringWithFormat:@"%C%C%C%C", (unichar)'e', (unichar)0xE9, (unichar)0xD83D, (unichar)0xDE00],
               "e\u00E9\U0001F600"));
    check("an unknown conversion raises", RAISES(NSInvalidArgumentException, [NSString stringWithFormat:@"%k", 1]));
}

static void strings(void) {
    NSString *text = @"a\u00E9\U0001F600z";  // 1, 1, 2 and 1 units
    check("lengths count units of UTF-16", [text length] == 5 && [@"" length] == 0);
    check("characters are such units", [text characterAtIndex:1] == 0xE9 && [text characterAtIndex:2] == 0xD83D &&
                                           [text characterAtIndex:3] == 0xDE00 && [text characterAtIndex:4] == 'z');
    check("no character beyond the end", RAISES(NSRangeException, [text characterAtIndex:5]));
    check("parts", same([text substringFromIndex:4], "z") && same([text substringToIndex:2], "a\u00E9") &&
                       same([text substringWithRange:NSMakeRange(1, 3)], "\u00E9\U0001F600"));
    check("no part beyond the end", RAISES(NSRangeException, [text substringFromIndex:6]) &&
                                        RAISES(NSRangeException, [text substringWithRange:NSMakeRange(4, 2)]) &&
                                        same([text substringFromIndex:5], ""));
    NSRange found = [@"\u00E9abcabc" rangeOfString:@"bc"], last = [@"\u00E9abcabc" rangeOfString:@"bc"
                                                                                         options:NSBackwardsSearch];
    check("searches count units, too", found.location == 2 && found.length == 2 && last.location == 5);
    check("what is not there is not found",
          [text rangeOfString:@"b"].location == NSNotFound && [text rangeOfString:@""].length == 0);
    check("prefixes and suffixes",
          [@"cuda:0" hasPrefix:@"cuda"] && [@"a.so" hasSuffix:@".so"] && ![@"a" hasPrefix:@"ab"]);
    check("order", [@"a" compare:@"b"] < 0 && [@"b" compare:@"a"] > 0 && [@"ab" compare:@"a"] > 0 &&
                       [@"a" compare:@"a"] == 0 && [@"CPU" caseInsensitiveCompare:@"cpu"] == NSOrderedSame);
    check("numbers", [@" -42x" integerValue] == -42 && [@"x" integerValue] == 0);
    check("splitting and joining",
          same([[@"a,,b," componentsSeparatedByString:@","] componentsJoinedByString:@"|"], "a||b|") &&
              same([@"a-b-a" stringByReplacingOccurrencesOfString:@"a" withString:@"cc"], "cc-b-cc"));
    check(
        "trimming",
        same([@" \n a b\t" stringByTrimmingCharactersInSet:[NSCharacterSet whitespaceAndNewlineCharacterSet]], "a b"));
    NSMutableString *changing = [NSMutableString string];
    const char *kept = [changing UTF8String];
    for (int i = 0; i < 1000; i++) [changing appendFormat:@"%d,", i];
    check("bytes that were asked for stay", *kept == '\0' && [changing length] == 3890);
    NSString *copy = [[changing copy] autorelease];
    [changing appendString:@"more"];
    check("a copy does not change", [copy length] == 3890 && [changing hasSuffix:@"999,more"]);
    check("equal texts are equal objects of one hash",
          [[NSString stringWithUTF8String:"key"] isEqual:@"key"] &&
              [[NSString stringWithUTF8String:"key"] hash] == [@"key" hash]);
    const char *wrong[] = {"\xff", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "a\xc3", "\x80"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        check("what is not UTF-8 is no string", [NSString stringWithUTF8String:wrong[i]] == nil);
    NSData *bytes = [NSData dataWithBytes:"a\xe9" length:2];
    check("ISO Latin 1",
          same([[[NSString alloc] initWithData:bytes encoding:NSISOLatin1StringEncoding] autorelease], "a\u00E9"));
}

static void paths(void) {
    const char *joined[][3] = {
        {"/a", "b", "/a/b"}, {"/a/", "b", "/a/b"}, {"/", "b", "/b"}, {"", "b", "b"}, {"a//", "b/c/", "a/b/c"}};
    for (size_t i = 0; i < sizeof joined / sizeof *joined; i++)
        check("a path is joined", same([[NSString stringWithUTF8String:joined[i][0]]
                                           stringByAppendingPathComponent:[NSString stringWithUTF8String:joined[i][1]]],
                                       joined[i][2]));
    // A path, its folder, its name, and it without its extension.
    const char *parts[][4] = {{"/a/b.so", "/a", "b.so", "/a/b"},
                              {"/a", "/", "a", "/a"},
                              {"a", "", "a", "a"},
                              {"a/b/", "a", "b", "a/b"},
                              {"/", "/", "/", "/"},
                              {"a.b/c", "a.b", "c", "a.b/c"},
                              {".hidden", "", ".hidden", ".hidden"},
                              {"x.tar.gz", "", "x.tar.gz", "x.tar"}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        NSString *path = [NSString stringWithUTF8String:parts[i][0]];
        check("a path has parts", same([path stringByDeletingLastPathComponent], parts[i][1]) &&
                                      same([path lastPathComponent], parts[i][2]) &&
                                      same([path stringByDeletingPathExtension], parts[i][3]));
    }
}

// Random changes, beside a plain table.
static void collections(void) {
    NSMutableDictionary *dictionary = [NSMutableDictionary dictionary];
    NSMutableArray *array = [NSMutableArray array];
    enum { KEYS = 64 };
    int table[KEYS], list[4000], length = 0, before = alive;
    for (int i = 0; i < KEYS; i++) table[i] = -1;
    BOOL right = YES, listed = YES;
    uint32_t random = 1;
    for (int i = 0; i < 4000; i++) {
        random = random * 1664525 + 1013904223;
        int key = random >> 8 & (KEYS - 1), value = (int)(random >> 16), what = (int)(random >> 28);
        NSString *name = [NSString stringWithFormat:@"key %d", key];
        if (what < 8) {
            [dictionary setObject:[NSNumber numberWithInteger:value] forKey:name];
            table[key] = value;
        } else if (what < 15) {
            [dictionary removeObjectForKey:name];
            table[key] = -1;
        } else if (key == 0) {
            [dictionary removeAllObjects];
            for (int j = 0; j < KEYS; j++) table[j] = -1;
        }
        if (what < 10) {
            NSUInteger at = (NSUInteger)value % ((NSUInteger)length + 1);
            [array insertObject:[NSNumber numberWithInteger:value] atIndex:at];
            memmove(list + at + 1, list + at, ((size_t)length++ - at) * sizeof *list);
            list[at] = value;
        } else if (length > 0) {
            NSUInteger at = (NSUInteger)value % (NSUInteger)length;
            [array removeObjectAtIndex:at];
            memmove(list + at, list + at + 1, ((size_t)length-- - at - 1) * sizeof *list);
        }
        int members = 0;
        for (int j = 0; j < KEYS; j++) members += table[j] >= 0;
        id found = [dictionary objectForKey:name];
        right = right && [dictionary count] == (NSUInteger)members &&
                (table[key] < 0 ? found == nil : [found integerValue] == table[key]);
        listed = listed && [array count] == (NSUInteger)length &&
                 (length == 0 || [[array objectAtIndex:(NSUInteger)(length / 2)] integerValue] == list[length / 2]);
    }
    check("a dictionary is a table", right);
    check("an array is a list", listed);
    NSUInteger seen = 0;
    for (NSString *key in dictionary) seen += [dictionary objectForKey:key] != nil;
    check("a loop comes to each key", seen == [dictionary count] && [[dictionary allKeys] count] == seen);
    NSArray *sorted =
        [[NSArray arrayWithObjects:@"c", @"a", @"b", @"a", nil] sortedArrayUsingSelector:@selector(compare:)];
    check("sorting", same([sorted componentsJoinedByString:@""], "aabc"));
    check("nothing beyond the end", RAISES(NSRangeException, [sorted objectAtIndex:4]) &&
                                        RAISES(NSRangeException, [array removeObjectAtIndex:(NSUInteger)length]));
    check("no nil", RAISES(NSInvalidArgumentException, [array addObject:nil]) &&
                        RAISES(NSInvalidArgumentException, [dictionary setObject:nil forKey:@"a"]));
    NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
    NSMutableSet *set = [NSMutableSet set];
    Counted *object = [[[Counted alloc] init] autorelease];
    [set addObject:object];
    [set addObject:object];
    check("a set has its members once", [set count] == 1 && [set containsObject:object] && ![set containsObject:@"a"]);
    NSMutableArray *kept = [NSMutableArray arrayWithObject:object];
    [kept addObject:object];
    [kept removeObjectIdenticalTo:object];
    check("identical objects go all", [kept count] == 0 && [kept lastObject] == nil);
    [pool drain];
    check("collections give back what they keep", alive == before);
}

static void files(const char *folder) {
    NSString *path = [[NSString stringWithUTF8String:folder] stringByAppendingPathComponent:@"made"];
    check("no data of a file that is not there", [NSData dataWithContentsOfFile:path] == nil);
    FILE *file = fopen([path fileSystemRepresentation], "wb");
    for (int i = 0; i < 5000; i++) fprintf(file, "line %d\n", i);
    fclose(file);
    NSString *text = [NSString stringWithContentsOfFile:path encoding:NSUTF8StringEncoding error:NULL];
    check("a file's text",
          [text hasSuffix:@"\nline 4999\n"] && [[NSData dataWithContentsOfFile:path] length] == [text length]);
    NSError *error = nil;
    check("a file is removed", [[NSFileManager defaultManager] removeItemAtPath:path error:&error] && error == nil);
    check("one that is not there is an error", ![[NSFileManager defaultManager] removeItemAtPath:path error:&error] &&
                                                   [[error localizedDescription] hasPrefix:path]);
}

int main(int count, char **words) {
    if (count != 2) return 2;
    NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
    objects();
    pools();
    threads();
    formats();
    strings();
    paths();
    collections();
    files(words[1]);
    [pool drain];
    check("nothing is left", alive == 0);
    return failed != 0;
}
