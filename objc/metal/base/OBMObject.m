#import "OBMObject.h"

@implementation OBMObject

- (id)retain {
    obm_add(&_extraReferences, 1);
    return self;
}

- (oneway void)release {
    if (obm_sub(&_extraReferences, 1) == 0) [self dealloc];
}

- (NSUInteger)retainCount {
    return (NSUInteger)obm_load(&_extraReferences) + 1;
}

- (void)dealloc {
    [_label release];
    [super dealloc];
}

- (NSString *)label {
    @synchronized(self) {
        return [[_label retain] autorelease];
    }
}

- (void)setLabel:(NSString *)label {
    NSString *copy = [label copy];
    @synchronized(self) {
        [_label release];
        _label = copy;
    }
}

- (id)mustBeOfSubclass:(SEL)method {
    [NSException raise:NSInternalInconsistencyException
                format:@"%@ does not have %@", NSStringFromClass([self class]), NSStringFromSelector(method)];
    return nil;
}

- (NSString *)labelSuffix {
    NSString *label = [self label];
    return label == nil ? @"" : [NSString stringWithFormat:@" '%@'", label];
}

@end
