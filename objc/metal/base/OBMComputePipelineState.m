#import "OBMComputePipelineState.h"

#import "OBMBinding.h"
#import "OBMDevice.h"
#import "OBMError.h"
#import "OBMFunction.h"

static OBMFunction *checkedFunction(MTLComputePipelineDescriptor *descriptor, OBMDevice *device) {
    if (descriptor == nil) OBMRaise(@"newComputePipelineStateWithDescriptor: the descriptor is nil");
    OBMFunction *function = (OBMFunction *)[descriptor computeFunction];
    if (function == nil) {
        OBMRaise(@"newComputePipelineState: the function is nil; check that the library has a kernel of the "
                 @"name asked for");
    }
    if (![function isKindOfClass:[OBMFunction class]] || [function device] != device) {
        OBMRaise(@"newComputePipelineState: function '%@' belongs to another device; open its library with "
                 @"this device",
                 [function name]);
    }
    return function;
}

@implementation OBMComputePipelineState

- (id)initWithDevice:(OBMDevice *)device descriptor:(MTLComputePipelineDescriptor *)descriptor error:(NSError **)error {
    self = [super init];
    if (self == nil) return nil;
    @try {
        _function = [checkedFunction(descriptor, device) retain];
    } @catch (NSException *exception) {
        [self release];
        @throw;
    }
    _device = [device retain];
    if (![_function makeReady:error]) {
        [self release];
        return nil;
    }
    _kernel = obm_kernel_make(&[_function function]->signature);
    _kernel.code = [_function code];
    _kernel.constants = [_function constantValues];
    NSUInteger limit = [descriptor maxTotalThreadsPerThreadgroup];
    if (limit > 0 && limit < _kernel.max_threads) _kernel.max_threads = (uint32_t)limit;
    if ([device largestThreadgroup] < _kernel.max_threads) _kernel.max_threads = (uint32_t)[device largestThreadgroup];
    [self setLabel:[descriptor label]];
    return self;
}

- (void)dealloc {
    [_function release];
    [_device release];
    [super dealloc];
}

- (id<MTLDevice>)device {
    return _device;
}
- (NSUInteger)maxTotalThreadsPerThreadgroup {
    return _kernel.max_threads;
}
- (NSUInteger)threadExecutionWidth {
    return _kernel.signature->thread_execution_width;
}
- (NSUInteger)staticThreadgroupMemoryLength {
    return _kernel.signature->static_threadgroup_length;
}
- (BOOL)supportIndirectCommandBuffers {
    return YES;
}

- (MTLComputePipelineReflection *)reflection {
    NSMutableArray *bindings = [NSMutableArray array];
    const metallib_slots *slots = [_function slots];
    for (uint32_t i = 0; i < _kernel.signature->argument_count; i++) {
        OBMBinding *binding = [OBMBinding newBindingWithArgument:&_kernel.signature->arguments[i] slots:slots];
        [bindings addObject:binding];
        [binding release];
    }
    OBMComputePipelineReflection *reflection = [[OBMComputePipelineReflection alloc] initWithBindings:bindings];
    return (MTLComputePipelineReflection *)[reflection autorelease];
}

@end
