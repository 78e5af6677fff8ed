#import "CPUComputePipelineState.h"

#import "CPUBinding.h"
#import "CPUDevice.h"
#import "CPUError.h"
#import "CPUFunction.h"
#import "MTLArgumentPrivate.h"

static CPUFunction *checkedFunction(MTLComputePipelineDescriptor *descriptor, CPUDevice *device) {
    if (descriptor == nil) CPURaise(@"newComputePipelineStateWithDescriptor: the descriptor is nil");
    CPUFunction *function = (CPUFunction *)[descriptor computeFunction];
    if (function == nil) {
        CPURaise(@"newComputePipelineState: the function is nil; check that the library has a kernel of the "
                 @"name asked for");
    }
    if (![function isKindOfClass:[CPUFunction class]] || [function device] != device) {
        CPURaise(@"newComputePipelineState: function '%@' belongs to another device; open its library with "
                 @"this device",
                 [function name]);
    }
    return function;
}

@implementation CPUComputePipelineState

- (id)initWithDevice:(CPUDevice *)device descriptor:(MTLComputePipelineDescriptor *)descriptor {
    self = [super init];
    if (self == nil) return nil;
    @try {
        _function = [checkedFunction(descriptor, device) retain];
    } @catch (NSException *exception) {
        [self release];
        @throw;
    }
    _device = [device retain];
    _kernel = cpu_kernel_make([_function function]);
    _kernel.native = [_function nativeEntry];
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

- (id<MTLDevice>)device { return _device; }
- (NSUInteger)maxTotalThreadsPerThreadgroup { return _kernel.max_threads; }
- (NSUInteger)threadExecutionWidth { return _kernel.function->thread_execution_width; }
- (NSUInteger)staticThreadgroupMemoryLength { return _kernel.function->static_threadgroup_length; }
- (BOOL)supportIndirectCommandBuffers { return NO; }

- (MTLComputePipelineReflection *)reflection {
    NSMutableArray *bindings = [NSMutableArray array];
    for (uint32_t i = 0; i < _kernel.function->argument_count; i++) {
        CPUBinding *binding = [CPUBinding newBindingWithArgument:&_kernel.function->arguments[i]];
        [bindings addObject:binding];
        [binding release];
    }
    return [[[MTLComputePipelineReflection alloc] initWithBindings:bindings] autorelease];
}

@end
