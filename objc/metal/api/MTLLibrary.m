#import "MTLLibrary.h"

@implementation MTLCompileOptions

- (id)init {
    self = [super init];
    if (self == nil) return nil;
    _fastMathEnabled = YES;
    _languageVersion = MTLLanguageVersion3_1;
    return self;
}

- (void)dealloc {
    [_preprocessorMacros release];
    [super dealloc];
}

- (id)copyWithZone:(NSZone *)zone {
    MTLCompileOptions *copy = [[MTLCompileOptions allocWithZone:zone] init];
    [copy setPreprocessorMacros:_preprocessorMacros];
    [copy setFastMathEnabled:_fastMathEnabled];
    [copy setLanguageVersion:_languageVersion];
    return copy;
}

- (NSDictionary *)preprocessorMacros {
    return _preprocessorMacros;
}

- (void)setPreprocessorMacros:(NSDictionary *)macros {
    NSDictionary *copy = [macros copy];
    [_preprocessorMacros release];
    _preprocessorMacros = copy;
}

- (BOOL)fastMathEnabled {
    return _fastMathEnabled;
}
- (void)setFastMathEnabled:(BOOL)enabled {
    _fastMathEnabled = enabled;
}
- (MTLLanguageVersion)languageVersion {
    return _languageVersion;
}
- (void)setLanguageVersion:(MTLLanguageVersion)version {
    _languageVersion = version;
}

@end
