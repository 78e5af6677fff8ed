#import "MTLComputePipeline.h"

#import "MTLLibrary.h"

@implementation MTLComputePipelineDescriptor

- (void)dealloc {
    [self reset];
    [super dealloc];
}

- (void)reset {
    [self setLabel:nil];
    [self setComputeFunction:nil];
    [self setBinaryArchives:nil];
    _threadGroupSizeIsMultipleOfThreadExecutionWidth = NO;
    _maxTotalThreadsPerThreadgroup = 0;
    _supportIndirectCommandBuffers = NO;
}

- (id)copyWithZone:(NSZone *)zone {
    MTLComputePipelineDescriptor *copy = [[MTLComputePipelineDescriptor allocWithZone:zone] init];
    [copy setLabel:_label];
    [copy setComputeFunction:_computeFunction];
    [copy setThreadGroupSizeIsMultipleOfThreadExecutionWidth:_threadGroupSizeIsMultipleOfThreadExecutionWidth];
    [copy setMaxTotalThreadsPerThreadgroup:_maxTotalThreadsPerThreadgroup];
    [copy setSupportIndirectCommandBuffers:_supportIndirectCommandBuffers];
    [copy setBinaryArchives:_binaryArchives];
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

- (id<MTLFunction>)computeFunction {
    return _computeFunction;
}

- (void)setComputeFunction:(id<MTLFunction>)function {
    [function retain];
    [_computeFunction release];
    _computeFunction = function;
}

- (NSArray *)binaryArchives {
    return _binaryArchives;
}

- (void)setBinaryArchives:(NSArray *)archives {
    NSArray *copy = [archives copy];
    [_binaryArchives release];
    _binaryArchives = copy;
}

- (BOOL)threadGroupSizeIsMultipleOfThreadExecutionWidth {
    return _threadGroupSizeIsMultipleOfThreadExecutionWidth;
}
- (void)setThreadGroupSizeIsMultipleOfThreadExecutionWidth:(BOOL)value {
    _threadGroupSizeIsMultipleOfThreadExecutionWidth = value;
}
- (NSUInteger)maxTotalThreadsPerThreadgroup {
    return _maxTotalThreadsPerThreadgroup;
}
- (void)setMaxTotalThreadsPerThreadgroup:(NSUInteger)value {
    _maxTotalThreadsPerThreadgroup = value;
}
- (BOOL)supportIndirectCommandBuffers {
    return _supportIndirectCommandBuffers;
}
- (void)setSupportIndirectCommandBuffers:(BOOL)value {
    _supportIndirectCommandBuffers = value;
}

@end
