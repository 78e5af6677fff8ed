#import <Foundation/Foundation.h>

NSString *const NSGenericException = @"NSGenericException";
NSString *const NSInternalInconsistencyException = @"NSInternalInconsistencyException";
NSString *const NSInvalidArgumentException = @"NSInvalidArgumentException";
NSString *const NSMallocException = @"NSMallocException";
NSString *const NSRangeException = @"NSRangeException";

@implementation NSException

+ (id)exceptionWithName:(NSString *)name reason:(NSString *)reason userInfo:(NSDictionary *)info {
    return [[[self alloc] initWithName:name reason:reason userInfo:info] autorelease];
}

+ (void)raise:(NSString *)name format:(NSString *)format, ... {
    va_list arguments;
    va_start(arguments, format);
    NSString *reason = [[[NSString alloc] initWithFormat:format arguments:arguments] autorelease];
    va_end(arguments);
    @throw [self exceptionWithName:name reason:reason userInfo:nil];
}

- (id)initWithName:(NSString *)name reason:(NSString *)reason userInfo:(NSDictionary *)info {
    _name = [name copy];
    _reason = [reason copy];
    _userInfo = [info copy];
    return self;
}

- (void)dealloc {
    [_name release];
    [_reason release];
    [_userInfo release];
    [super dealloc];
}

- (id)copyWithZone:(NSZone *)zone {
    (void)zone;
    return [self retain];
}

- (void)raise {
    @throw self;
}

- (NSString *)name {
    return _name;
}

- (NSString *)reason {
    return _reason;
}

- (NSDictionary *)userInfo {
    return _userInfo;
}

- (NSString *)description {
    return [NSString stringWithFormat:@"%@: %@", [self name], [self reason]];
}

@end
