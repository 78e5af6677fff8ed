#import <Foundation/Foundation.h>

NSString *const NSLocalizedDescriptionKey = @"NSLocalizedDescription";
NSErrorDomain const NSPOSIXErrorDomain = @"NSPOSIXErrorDomain";

@implementation NSError

+ (id)errorWithDomain:(NSErrorDomain)domain code:(NSInteger)code userInfo:(NSDictionary *)info {
    return [[[self alloc] initWithDomain:domain code:code userInfo:info] autorelease];
}

- (id)initWithDomain:(NSErrorDomain)domain code:(NSInteger)code userInfo:(NSDictionary *)info {
    _domain = [domain copy];
    _code = code;
    _userInfo = [info copy];
    return self;
}

- (void)dealloc {
    [_domain release];
    [_userInfo release];
    [super dealloc];
}

- (id)copyWithZone:(NSZone *)zone {
    (void)zone;
    return [self retain];
}

- (NSErrorDomain)domain {
    return _domain;
}

- (NSInteger)code {
    return _code;
}

- (NSDictionary *)userInfo {
    return _userInfo;
}

- (NSString *)localizedDescription {
    NSString *text = [_userInfo objectForKey:NSLocalizedDescriptionKey];
    return text != nil ? text : [NSString stringWithFormat:@"%@, error %ld", _domain, (long)_code];
}

- (NSString *)description {
    return [self localizedDescription];
}

@end
