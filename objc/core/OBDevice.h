// A device and what lives as long as it: the command queue and the libraries opened on it.
//
// Threading: every method may be called from any thread. Ownership: factories return autoreleased
// objects; a device stays alive while anything made from it does.
#import "OBMetal.h"
#import "onebuf.h"

@class OBLibrary, OBResidency, OBTransfers;

@interface OBDevice : NSObject {
    id<MTLDevice> _device;
    id<MTLCommandQueue> _queue;
    OBTransfers *_transfers;
    OBResidency *_residency;
    NSString *_name;
    BOOL _measures;
}

// `name` is "auto" (the system's default device) or a device's name, case ignored. `options` may be NULL.
// nil and an error that lists the devices when there is none of that name, or that says which option it
// cannot have.
+ (OBDevice *)deviceNamed:(NSString *)name options:(const ob_device_options *)options error:(NSError **)error;

// The names of all devices there are, for +deviceNamed:.
+ (NSArray *)deviceNames;

@property(readonly) id<MTLDevice> device;
@property(readonly) id<MTLCommandQueue> queue;

// The name that +deviceNamed: takes: "metal" for the default of a system whose devices have products' names, else the
// device's own.
@property(readonly) NSString *name;

// The name that the hardware goes by.
@property(readonly) NSString *hardwareName;

// The instruction set that kernels use on a device that is a processor, such as "avx2"; else nil.
@property(readonly) NSString *instructionSet;

// Worker threads, or 0 for a device that has none.
@property(readonly) NSUInteger threads;

// How many orders of its threads a device that checks kernels tries for each dispatch, demanding one
// result; 0 for a device that does not.
@property(readonly) NSUInteger schedules;

// Whether its compute encoders adopt OBMeasuringEncoder.
@property(readonly) BOOL measures;

// Whether host and device share their memory. Then private storage is shared storage.
@property(readonly) BOOL unified;

// Bytes that may be in use on the device at once without loss of speed.
@property(readonly) uint64_t workingSet;

// Bytes of memory that the device has of its own; 0 where it does not tell.
@property(readonly) uint64_t memorySize;

// Cores of a GPU; 0 where it does not tell.
@property(readonly) NSUInteger coreCount;

// Seconds after which the system ends a command buffer; 0: it never does.
@property(readonly) double longestCommandBuffer;

@property(readonly) OBTransfers *transfers;

// The object that keeps buffers within the device's reach; nil where the system has no such thing.
@property(readonly) OBResidency *residency;

// Whether compiled kernels may be kept in a file (OBArchive).
@property(readonly) BOOL hasArchives;

// Command buffers that reached the queue, where the queue counts them; else -1.
@property(readonly) int64_t committedCommandBuffers;

// The library at `path` as it is now, opened afresh. nil and an error when it cannot be opened.
- (OBLibrary *)libraryAtPath:(NSString *)path error:(NSError **)error;

// A library compiled from Metal Shading Language, with arithmetic as written (no fast math).
// nil and an error that holds the compiler's messages when it does not compile.
- (OBLibrary *)libraryWithSource:(NSString *)source error:(NSError **)error;

// `length` zeroed bytes. Private storage, which the host does not see, is a wish: see `unified`. nil and an error when
// length is 0, more than the device takes, or not to be had. The caller owns the buffer (+1).
- (id<MTLBuffer>)newBufferWithLength:(NSUInteger)length storage:(MTLStorageMode)storage error:(NSError **)error;

// The same with a copy of the host's bytes in it, which runs that are committed later find there.
- (id<MTLBuffer>)newBufferWithBytes:(const void *)bytes
                             length:(NSUInteger)length
                            storage:(MTLStorageMode)storage
                              error:(NSError **)error;

// A buffer over the caller's memory, which must outlive it. The address and the length must be
// multiples of the page size. The caller owns the buffer (+1).
- (id<MTLBuffer>)newBufferWithMemory:(void *)memory length:(NSUInteger)length error:(NSError **)error;

@end
