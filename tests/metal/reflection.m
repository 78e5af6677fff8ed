// The device's properties, libraries, functions and what reflection says about a kernel.
#import "check.h"

static void device(fixture *f) {
    CHECK(f, "the device has its name", [[f->device name] isEqualToString:f->name]);
    CHECK(f, "it tells whether its memory is the host's", [f->device hasUnifiedMemory] == sharesMemory(f));
    CHECK(f, "threadgroup memory is Metal's usual amount", [f->device maxThreadgroupMemoryLength] == 32768);
    CHECK(f, "a threadgroup has room for threads", [f->device maxThreadsPerThreadgroup].width >= 64);
    CHECK(f, "buffers may be as large as memory",
          [f->device maxBufferLength] > 64 << 20 &&
              [f->device recommendedMaxWorkingSetSize] <= [f->device maxBufferLength]);
    CHECK(f, "it is built in or in a slot, and drives no display",
          [f->device location] == (isGPU(f) ? MTLDeviceLocationSlot : MTLDeviceLocationBuiltIn) && [f->device isHeadless] &&
              ![f->device isRemovable] && ![f->device isLowPower]);
    CHECK(f, "it promises no family of GPUs", ![f->device supportsFamily:MTLGPUFamilyApple7]);
    CHECK(f, "there is no default library", [f->device newDefaultLibrary] == nil);
    NSArray *all = MTLCopyAllDevices();
    id<MTLDevice> usual = MTLCreateSystemDefaultDevice();
    CHECK(f, "all devices begin with the default one",
          [all count] >= 2 && [[[all objectAtIndex:0] name] isEqualToString:[usual name]]);
    CHECK(f, "the checker is the last", [[[all lastObject] name] isEqualToString:@"checker"]);
    CHECK(f, "each device is its own", [[all objectAtIndex:0] registryID] != [f->device registryID]);
    [usual release];
    [all release];
}

static void functions(fixture *f) {
    NSArray *names = [f->library functionNames];
    CHECK(f, "a library lists its functions",
          [names count] == 13 && [names containsObject:@"add"] && [names containsObject:@"visit"]);
    CHECK(f, "a library is executable",
          [f->library type] == MTLLibraryTypeExecutable && [f->library installName] == nil);
    id<MTLFunction> function = [f->library newFunctionWithName:@"paint"];
    CHECK(f, "a function knows its name, type and device",
          [[function name] isEqualToString:@"paint"] && [function functionType] == MTLFunctionTypeKernel &&
              [function device] == f->device);
    CHECK(f, "an unknown function is nil", [f->library newFunctionWithName:@"pain"] == nil);
    [function release];
}

static void limits(fixture *f) {
    id<MTLComputePipelineState> visit = pipeline(f, @"visit"), stash = pipeline(f, @"stash");
    CHECK_EQUAL(f, "the largest threadgroup", [visit maxTotalThreadsPerThreadgroup], 64);
    CHECK_EQUAL(f, "the width of a simdgroup", [visit threadExecutionWidth], 4);
    CHECK_EQUAL(f, "the kernel's own threadgroup memory", [stash staticThreadgroupMemoryLength], 256);

    MTLComputePipelineDescriptor *descriptor = [[[MTLComputePipelineDescriptor alloc] init] autorelease];
    [descriptor setComputeFunction:[[f->library newFunctionWithName:@"visit"] autorelease]];
    [descriptor setLabel:@"narrow"];
    [descriptor setMaxTotalThreadsPerThreadgroup:16];
    id<MTLComputePipelineState> narrow = [[f->device
        newComputePipelineStateWithDescriptor:[[descriptor copy] autorelease]
                                      options:MTLPipelineOptionNone
                                   reflection:NULL
                                        error:NULL] autorelease];
    CHECK(f, "a descriptor sets limit and label",
          [narrow maxTotalThreadsPerThreadgroup] == 16 && [[narrow label] isEqualToString:@"narrow"]);
    [descriptor reset];
    CHECK(f, "reset clears a descriptor",
          [descriptor computeFunction] == nil && [descriptor maxTotalThreadsPerThreadgroup] == 0);
}

static NSArray *bindingsOf(fixture *f, NSString *name) {
    MTLComputePipelineReflection *reflection = nil;
    NSError *error = nil;
    id<MTLFunction> function = [[f->library newFunctionWithName:name] autorelease];
    id<MTLComputePipelineState> state = [f->device
        newComputePipelineStateWithFunction:function
                                    options:MTLPipelineOptionArgumentInfo | MTLPipelineOptionBufferTypeInfo
                                 reflection:&reflection
                                      error:&error];
    [state release];
    return [reflection bindings];
}

static void buffers(fixture *f) {
    NSArray *bindings = bindingsOf(f, @"step");
    CHECK_EQUAL(f, "every argument is reflected", [bindings count], 3);
    id<MTLBufferBinding> from = [bindings objectAtIndex:0], to = [bindings objectAtIndex:1],
                         value = [bindings objectAtIndex:2];
    CHECK(f, "names and indices",
          [[from name] isEqualToString:@"from"] && [from index] == 0 && [[to name] isEqualToString:@"to"] &&
              [to index] == 1);
    CHECK(f, "a const pointer is read",
          [from access] == MTLBindingAccessReadOnly && [value access] == MTLBindingAccessReadOnly);
    CHECK(f, "a pointer is read and written", [to access] == MTLBindingAccessReadWrite);
    CHECK(f, "buffers are used arguments",
          [from type] == MTLBindingTypeBuffer && [from isUsed] && [from isArgument]);
    CHECK(f, "element type, size and alignment",
          [from bufferDataType] == MTLDataTypeUInt && [from bufferDataSize] == 4 &&
              [from bufferAlignment] == 4);
    CHECK(f, "a scalar is no struct", [from bufferStructType] == nil);
    MTLPointerType *pointer = [from bufferPointerType];
    CHECK(f, "the pointer's type",
          [pointer dataType] == MTLDataTypePointer && [pointer elementType] == MTLDataTypeUInt &&
              [pointer access] == MTLBindingAccessReadOnly && [pointer dataSize] == 4 &&
              [pointer elementStructType] == nil);
}

static void structs(fixture *f) {
    NSArray *bindings = bindingsOf(f, @"paint");
    id<MTLBufferBinding> out = [bindings objectAtIndex:0], args = [bindings objectAtIndex:1];
    CHECK_EQUAL(f, "a write-only pointer", [out access], MTLBindingAccessWriteOnly);
    CHECK(f, "a struct's size and alignment",
          [args bufferDataType] == MTLDataTypeStruct && [args bufferDataSize] == 32 &&
              [args bufferAlignment] == 16);
    MTLStructType *type = [args bufferStructType];
    CHECK(f, "a struct has its members", [type dataType] == MTLDataTypeStruct && [[type members] count] == 4);
    MTLStructMember *scale = [type memberByName:@"scale"], *halves = [type memberByName:@"halves"],
                    *color = [type memberByName:@"color"];
    CHECK(f, "a member's offset and type",
          [scale offset] == 4 && [scale dataType] == MTLDataTypeFloat && [scale arrayType] == nil);
    CHECK(f, "a vector member", [color offset] == 16 && [color dataType] == MTLDataTypeFloat4);
    CHECK(f, "an array member",
          [halves dataType] == MTLDataTypeArray && [[halves arrayType] elementType] == MTLDataTypeHalf &&
              [[halves arrayType] arrayLength] == 4 && [[halves arrayType] stride] == 2);
    CHECK(f, "an unknown member is nil", [type memberByName:@"size"] == nil);
}

static void threadgroups(fixture *f) {
    NSArray *bindings = bindingsOf(f, @"stash");
    id<MTLThreadgroupBinding> t = [bindings objectAtIndex:3];
    CHECK(f, "threadgroup memory is reflected",
          [bindings count] == 4 && [t type] == MTLBindingTypeThreadgroupMemory && [t index] == 2 &&
              [[t name] isEqualToString:@"t"] && [t threadgroupMemoryAlignment] == 1 &&
              [t threadgroupMemoryDataSize] == 1);
    MTLComputePipelineReflection *reflection = (id) @"left over";
    id<MTLFunction> function = [[f->library newFunctionWithName:@"stash"] autorelease];
    [[f->device newComputePipelineStateWithFunction:function
                                            options:MTLPipelineOptionNone
                                         reflection:&reflection
                                              error:NULL] release];
    CHECK(f, "no reflection unless asked for", reflection == nil);
}

static void passes(fixture *f) {
    MTLComputePassDescriptor *pass = [MTLComputePassDescriptor computePassDescriptor];
    CHECK_EQUAL(f, "a pass is serial unless set", [pass dispatchType], MTLDispatchTypeSerial);
    [pass setDispatchType:MTLDispatchTypeConcurrent];
    id<MTLCommandBuffer> commands = [f->queue commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [commands
        computeCommandEncoderWithDescriptor:[[pass copy] autorelease]];
    CHECK_EQUAL(f, "an encoder is as its descriptor says", [encoder dispatchType], MTLDispatchTypeConcurrent);
    [encoder endEncoding];
    [[commands blitCommandEncoderWithDescriptor:[MTLBlitPassDescriptor blitPassDescriptor]] endEncoding];
    CHECK(f, "encoders from descriptors run", finish(commands));
}

static void tests(fixture *f) {
    device(f);
    functions(f);
    limits(f);
    buffers(f);
    structs(f);
    threadgroups(f);
    passes(f);
}

int main(int count, char **words) { return run_tests(count, words, tests); }
