#import "MTLResidencySet.h"

@implementation MTLResidencySetDescriptor

- (void)dealloc {
    [_label release];
    [super dealloc];
}

- (id)copyWithZone:(NSZone *)zone {
    MTLResidencySetDescriptor *copy = [[MTLResidencySetDescriptor allocWithZone:zone] init];
    [copy setLabel:_label];
    [copy setInitialCapacity:_initialCapacity];
    return copy;
}

- (NSString *)label {
    return _label;
}

- (void)setLabel:(NSString *)label {
    NSString *copy = [label copy];
    [_label release];
    _label = copy;
}

- (NSUInteger)initialCapacity {
    return _initialCapacity;
}
- (void)setInitialCapacity:(NSUInteger)capacity {
    _initialCapacity = capacity;
}

@end
