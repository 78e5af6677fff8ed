// Argument buffers: structs whose members point to memory, set by an encoder or by addresses.
#import "check.h"

enum { COUNT = 4, FROM = 0, TO = 1, VALUE = 3 };  // [[id(n)]] of kernel visit_pointers; TO is an array of two

typedef struct {
    uint64_t from, to[2];
    uint32_t value;
} pointers;

static MTLStructType *reflected(fixture *f) {
    MTLComputePipelineReflection *reflection = nil;
    id<MTLFunction> function = [[f->library newFunctionWithName:@"visit_pointers"] autorelease];
    [[f->device newComputePipelineStateWithFunction:function
                                            options:MTLPipelineOptionArgumentInfo | MTLPipelineOptionBufferTypeInfo
                                         reflection:&reflection
                                              error:NULL] release];
    return [(id<MTLBufferBinding>)[[reflection bindings] objectAtIndex:0] bufferStructType];
}

static void reflection(fixture *f) {
    MTLStructType *type = reflected(f);
    MTLStructMember *from = [type memberByName:@"from"], *to = [type memberByName:@"to"];
    MTLPointerType *first = [from pointerType], *second = [[to arrayType] elementPointerType];
    CHECK(f, "a pointer says what it points to",
          [from dataType] == MTLDataTypePointer && [first elementType] == MTLDataTypeUInt && [first dataSize] == 4 &&
              [first alignment] == 4 && [first access] == MTLBindingAccessReadOnly);
    CHECK(f, "so does an array of pointers",
          [to dataType] == MTLDataTypeArray && [[to arrayType] elementType] == MTLDataTypePointer &&
              [[to arrayType] stride] == 8 && [[to arrayType] argumentIndexStride] == 1 &&
              [second access] == MTLBindingAccessReadWrite && [to pointerType] == nil);
    CHECK(f, "members have ids", [from argumentIndex] == FROM && [to argumentIndex] == TO &&
                                     [[type memberByName:@"value"] argumentIndex] == VALUE);
}

// Runs the kernel on the struct at `offset` of a buffer: to[0][i] = from[i] + value, to[1][i] = from[i] - value.
static BOOL isRight(fixture *f, id<MTLBuffer> structs, NSUInteger offset, NSArray *memory) {
    id<MTLCommandBuffer> commands = [f->queue commandBuffer];
    id<MTLComputeCommandEncoder> encoder = [commands computeCommandEncoder];
    [encoder setComputePipelineState:pipeline(f, @"visit_pointers")];
    [encoder setBuffer:structs offset:offset atIndex:0];
    [encoder useResource:[memory objectAtIndex:0] usage:MTLResourceUsageRead];
    for (NSUInteger i = 1; i < 3; i++)
        [encoder useResource:[memory objectAtIndex:i] usage:MTLResourceUsageRead | MTLResourceUsageWrite];
    [encoder dispatchThreadgroups:MTLSizeMake(COUNT, 1, 1) threadsPerThreadgroup:MTLSizeMake(1, 1, 1)];
    [encoder endEncoding];
    BOOL right = finish(commands);
    for (NSUInteger i = 0; i < COUNT; i++) {
        right = right && at([memory objectAtIndex:1], i) == 10 + i + 3 && at([memory objectAtIndex:2], i) == 10 + i - 3;
    }
    return right;
}

static NSArray *memory(fixture *f) {
    static const uint32_t values[COUNT] = {10, 11, 12, 13};
    return [NSArray arrayWithObjects:numbers(f, values, COUNT), zeroes(f, COUNT), zeroes(f, COUNT), nil];
}

static void encoders(fixture *f) {
    id<MTLFunction> function = [[f->library newFunctionWithName:@"visit_pointers"] autorelease];
    id<MTLArgumentEncoder> encoder = [[function newArgumentEncoderWithBufferIndex:0] autorelease];
    CHECK(f, "an encoder knows its struct", [encoder encodedLength] == sizeof(pointers) && [encoder alignment] == 8 &&
                                                [encoder device] == f->device);
    CHECK_MISUSE(f, "no struct is set", [encoder setBuffer:nil offset:0 atIndex:FROM], @"call setArgumentBuffer first");
    NSArray *all = memory(f);
    id<MTLBuffer> structs = zeroes(f, 2 * sizeof(pointers) / 4);
    [encoder setArgumentBuffer:structs startOffset:0 arrayElement:1];
    [encoder setBuffer:[all objectAtIndex:0] offset:0 atIndex:FROM];
    const id<MTLBuffer> to[2] = {[all objectAtIndex:1], [all objectAtIndex:2]};
    const NSUInteger offsets[2] = {0, 0};
    [encoder setBuffers:to offsets:offsets withRange:NSMakeRange(TO, 2)];
    *(uint32_t *)[encoder constantDataAtIndex:VALUE] = 3;
    CHECK(f, "a kernel follows what an encoder set", isRight(f, structs, sizeof(pointers), all));
    CHECK_MISUSE(f, "a value is no buffer", [encoder setBuffer:structs offset:0 atIndex:VALUE], @"'value'", @"[[id(3)]]");
    CHECK_MISUSE(f, "a buffer is no value", [encoder constantDataAtIndex:FROM], @"'from'", @"setBuffer");
    CHECK_MISUSE(f, "an unknown id", [encoder setBuffer:structs offset:0 atIndex:4], @"[[id(4)]]");
    CHECK_MISUSE(f, "an offset that is not aligned", [encoder setBuffer:structs offset:2 atIndex:TO], @"alignment 4");
    CHECK_MISUSE(f, "an offset outside", [encoder setBuffer:structs offset:4096 atIndex:TO], @"beyond the length");
    CHECK_MISUSE(f, "a struct outside its buffer", [encoder setArgumentBuffer:structs offset:sizeof(pointers) + 8],
                 @"beyond the length");
    CHECK_MISUSE(f, "a struct that is not aligned", [encoder setArgumentBuffer:structs offset:4], @"alignment 8");
    CHECK_MISUSE(f, "an argument that is no argument buffer",
                 [[[f->library newFunctionWithName:@"add"] autorelease] newArgumentEncoderWithBufferIndex:0], @"'add'",
                 @"members that point");
    [encoder setBuffer:nil offset:0 atIndex:FROM];
    CHECK_EQUAL(f, "nil is a null pointer", ((pointers *)[structs contents])[1].from, 0);
}

static void addresses(fixture *f) {
    NSArray *all = memory(f);
    id<MTLBuffer> structs = zeroes(f, sizeof(pointers) / 4);
    uint64_t address[3];
    for (NSUInteger i = 0; i < 3; i++) address[i] = [(id<MTLBuffer>)[all objectAtIndex:i] gpuAddress];
    *(pointers *)[structs contents] = (pointers){address[0], {address[1], address[2]}, 3};
    CHECK(f, "a kernel follows addresses", isRight(f, structs, 0, all));
    CHECK_EQUAL(f, "a buffer's address stays", [(id<MTLBuffer>)[all objectAtIndex:1] gpuAddress], address[1]);
}

static void tests(fixture *f) {
    reflection(f);
    encoders(f);
    addresses(f);
}

int main(int count, char **words) { return run_tests(count, words, tests); }
