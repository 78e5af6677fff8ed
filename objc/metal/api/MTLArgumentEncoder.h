// Writes the addresses of buffers into a buffer that a kernel takes as a struct: an argument buffer.
//
// A host may do without it: the members of such a struct lie as in C, and a member that points to memory holds a
// buffer's gpuAddress. Either way, useResource: names the memory to the encoder that runs the kernel. One thread uses
// an encoder.
#import "MTLDefines.h"

@protocol MTLBuffer;
@protocol MTLDevice;

@protocol MTLArgumentEncoder <NSObject>

@property(readonly) id<MTLDevice> device;
@property(copy, atomic) NSString *label;
@property(readonly) NSUInteger encodedLength;  // bytes of one struct
@property(readonly) NSUInteger alignment;      // of its place in a buffer

// Where the calls below write; the second names an element of an array of structs.
- (void)setArgumentBuffer:(id<MTLBuffer>)argumentBuffer offset:(NSUInteger)offset;
- (void)setArgumentBuffer:(id<MTLBuffer>)argumentBuffer
              startOffset:(NSUInteger)startOffset
             arrayElement:(NSUInteger)arrayElement;

// `index` is the n of a member's [[id(n)]], or its place. nil is a null pointer.
- (void)setBuffer:(id<MTLBuffer>)buffer offset:(NSUInteger)offset atIndex:(NSUInteger)index;
- (void)setBuffers:(const id<MTLBuffer>[])buffers offsets:(const NSUInteger[])offsets withRange:(NSRange)range;

// Where to write the value of a member that is no pointer.
- (void *)constantDataAtIndex:(NSUInteger)index;

@end
