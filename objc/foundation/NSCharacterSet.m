#import <Foundation/Foundation.h>

@implementation NSCharacterSet

+ (NSCharacterSet *)whitespaceAndNewlineCharacterSet {
    return [self characterSetWithCharactersInString:@" \t\n\r\v\f"];
}

+ (NSCharacterSet *)whitespaceCharacterSet {
    return [self characterSetWithCharactersInString:@" \t"];
}

+ (NSCharacterSet *)characterSetWithCharactersInString:(NSString *)characters {
    NSCharacterSet *set = [[[self alloc] init] autorelease];
    for (const char *at = [characters UTF8String]; *at != '\0'; at++)
        if ((uint8_t)*at < sizeof set->_has) set->_has[(uint8_t)*at] = 1;
    return set;
}

- (BOOL)characterIsMember:(unichar)character {
    return character < sizeof _has && _has[character];
}

@end
