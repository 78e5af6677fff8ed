#import "OBDevice.h"
#import "OBArchive.h"
#import "OBError.h"
#import "OBExtensions.h"
#import "OBLibrary.h"
#import "OBResidency.h"
#import "OBTransfers.h"

@interface OBDevice ()
- (BOOL)apply:(const ob_device_options *)options error:(NSError **)error;
@end

@implementation OBDevice

static BOOL areAlike(NSString *a, NSString *b) { return [a caseInsensitiveCompare:b] == NSOrderedSame; }

static BOOL isDefault(NSString *name) {
    return areAlike(name, @"auto") || (OBSystemDeviceName != nil && areAlike(name, OBSystemDeviceName));
}

// The system has no default for a program without a window, such as one that runs over a network; any device then does.
static id<MTLDevice> copyDefaultDevice(void) {
    id<MTLDevice> device = MTLCreateSystemDefaultDevice();
    if (device != nil) return device;
    NSArray *devices = MTLCopyAllDevices();
    if ([devices count] > 0) device = [[devices objectAtIndex:0] retain];
    [devices release];
    return device;
}

// `shown` is the name that it goes by. Where the system has no device, such as on a virtual machine, "auto" is the
// processor.
static id<MTLDevice> copyDeviceNamed(NSString *name, NSString **shown) {
    id<MTLDevice> device = isDefault(name) ? copyDefaultDevice() : OBCopyDeviceNamed(name);
    *shown = isDefault(name) && OBSystemDeviceName != nil ? OBSystemDeviceName : [device name];
    if (device != nil || !areAlike(name, @"auto")) return device;
    device = OBMCreateDefaultDevice();
    *shown = [device name];
    return device;
}

+ (NSArray *)deviceNames {
    NSMutableArray *names = [NSMutableArray array];
    id<MTLDevice> first = OBSystemDeviceName != nil ? copyDefaultDevice() : nil;
    NSArray *devices = OBCopyAllDevices();
    for (id<MTLDevice> device in devices) {
        BOOL isFirst = first != nil && [[device name] isEqual:[first name]];
        [names addObject:isFirst ? OBSystemDeviceName : [device name]];
    }
    [devices release];
    [first release];
    return names;
}

static NSString *reasonOfMissing(NSString *name) {
    NSArray *names = [[NSArray arrayWithObject:@"auto"] arrayByAddingObjectsFromArray:[OBDevice deviceNames]];
    for (NSString *known in names) {
        if ([known caseInsensitiveCompare:name] != NSOrderedSame) continue;
        return [NSString stringWithFormat:@"device '%@' does not open: no memory is left, or the system refuses", name];
    }
    NSString *problem = OBMProblemOfDevice(name);
    return [NSString stringWithFormat:@"no device named '%@' on this machine%@%@; choose one of: %@", name,
                                      problem != nil ? @": " : @"", problem != nil ? problem : @"",
                                      [names componentsJoinedByString:@", "]];
}

+ (OBDevice *)deviceNamed:(NSString *)name options:(const ob_device_options *)options error:(NSError **)error {
    NSString *shown;
    id<MTLDevice> device = copyDeviceNamed(name, &shown);
    if (device == nil) return OBFail(error, OBErrorDevice, @"%@", reasonOfMissing(name));
    OBDevice *result = [[[OBDevice alloc] init] autorelease];
    if (result == nil) {
        [device release];
        return OBFail(error, OBErrorMemory, @"no memory for device '%@'", name);
    }
    result->_device = device;
    result->_measures = [device conformsToProtocol:@protocol(OBMeasuringDevice)];
    result->_name = [shown copy];
    if (options != NULL && ![result apply:options error:error]) return nil;
    result->_queue = [device newCommandQueue];
    if (result->_queue == nil) {
        return OBFail(error, OBErrorDevice, @"device '%@' gave no command queue", name);
    }
    result->_transfers = [[OBTransfers transfersWithDevice:device queue:result->_queue] retain];
    if (result->_transfers == nil) return OBFail(error, OBErrorMemory, @"no memory for device '%@'", name);
    result->_residency = [[OBResidency residencyWithDevice:device queue:result->_queue] retain];
    return result;
}

- (BOOL)apply:(const ob_device_options *)options error:(NSError **)error {
    if (options->threads > 0 && [_device conformsToProtocol:@protocol(OBThreadedDevice)]) {
        [(id<OBThreadedDevice>)_device setWorkerThreadCount:options->threads];
    }
    if (options->schedules > 0) {
        if (![_device conformsToProtocol:@protocol(OBSchedulingDevice)]) {
            OBFail(error, OBErrorArgument, @"device '%@' does not choose the order of threads; open \"checker\"",
                   _name);
            return NO;
        }
        [(id<OBSchedulingDevice>)_device setScheduleCount:options->schedules];
    }
    if (options->isa == NULL) return YES;
    if (![_device conformsToProtocol:@protocol(OBProcessorDevice)]) {
        OBFail(error, OBErrorArgument, @"device '%@' has no instruction sets to choose from; open \"cpu\"", _name);
        return NO;
    }
    NSError *cause = nil;
    NSString *name = [NSString stringWithUTF8String:options->isa];
    if ([(id<OBProcessorDevice>)_device setInstructionSet:name != nil ? name : @"" error:&cause]) return YES;
    OBFail(error, OBErrorDevice, @"%@", [cause localizedDescription]);
    return NO;
}

- (void)dealloc {
    [_residency release];
    [_transfers release];
    [_queue release];
    [_device release];
    [_name release];
    [super dealloc];
}

- (id<MTLDevice>)device {
    return _device;
}
- (id<MTLCommandQueue>)queue {
    return _queue;
}
- (NSString *)name {
    return _name;
}
- (BOOL)measures {
    return _measures;
}
- (BOOL)unified {
    return [_device hasUnifiedMemory];
}
- (uint64_t)workingSet {
    return [_device recommendedMaxWorkingSetSize];
}
// macOS does not say it; command buffers were seen to be ended after some five seconds.
- (double)longestCommandBuffer {
    if (![_device conformsToProtocol:@protocol(OBWatchedDevice)]) return 4;
    return [(id<OBWatchedDevice>)_device longestCommandBuffer];
}
- (uint64_t)memorySize {
    if (![_device conformsToProtocol:@protocol(OBHardwareDevice)]) return 0;
    return [(id<OBHardwareDevice>)_device memorySize];
}
- (NSUInteger)coreCount {
    if (![_device conformsToProtocol:@protocol(OBHardwareDevice)]) return 0;
    return [(id<OBHardwareDevice>)_device coreCount];
}
- (OBTransfers *)transfers {
    return _transfers;
}
- (OBResidency *)residency {
    return _residency;
}
- (BOOL)hasArchives {
    return [OBArchive isForDevice:_device];
}
- (NSString *)hardwareName {
    if ([_device conformsToProtocol:@protocol(OBHardwareDevice)]) return [(id<OBHardwareDevice>)_device hardwareName];
    return [_device name];
}

- (NSUInteger)threads {
    if (![_device conformsToProtocol:@protocol(OBThreadedDevice)]) return 0;
    return [(id<OBThreadedDevice>)_device workerThreadCount];
}

- (NSString *)instructionSet {
    if ([_device conformsToProtocol:@protocol(OBHardwareDevice)]) return [(id<OBHardwareDevice>)_device instructionSet];
    if (![_device conformsToProtocol:@protocol(OBProcessorDevice)]) return nil;
    return [(id<OBProcessorDevice>)_device instructionSet];
}

- (NSUInteger)schedules {
    if (![_device conformsToProtocol:@protocol(OBSchedulingDevice)]) return 0;
    return [(id<OBSchedulingDevice>)_device scheduleCount];
}

- (int64_t)committedCommandBuffers {
    if (![_queue conformsToProtocol:@protocol(OBCountingQueue)]) return -1;
    return (int64_t)[(id<OBCountingQueue>)_queue committedCommandBufferCount];
}

- (OBLibrary *)libraryAtPath:(NSString *)path error:(NSError **)error {
    NSError *cause = nil;
    id<MTLLibrary> opened = [_device newLibraryWithURL:[NSURL fileURLWithPath:path] error:&cause];
    if (opened == nil) {
        return OBFail(error, OBErrorCompile, @"shader library %@: %@", path, [cause localizedDescription]);
    }
    OBLibrary *library = [OBLibrary libraryWithLibrary:opened device:_device];
    [opened release];
    return library != nil ? library : OBFail(error, OBErrorMemory, @"no memory for shader library %@", path);
}

- (OBLibrary *)libraryWithSource:(NSString *)source error:(NSError **)error {
    MTLCompileOptions *options = [[[MTLCompileOptions alloc] init] autorelease];
    [options setFastMathEnabled:NO];
    [options setLanguageVersion:MTLLanguageVersion3_1];  // the first with bfloat
    NSError *cause = nil;
    id<MTLLibrary> compiled = [_device newLibraryWithSource:source options:options error:&cause];
    if (compiled == nil) {
        return OBFail(error, OBErrorCompile, @"%@", [cause localizedDescription]);
    }
    OBLibrary *library = [OBLibrary libraryWithLibrary:compiled device:_device];
    [compiled release];
    return library != nil ? library : OBFail(error, OBErrorMemory, @"no memory for a shader library");
}

- (id<MTLBuffer>)newBufferWithLength:(NSUInteger)length storage:(MTLStorageMode)storage error:(NSError **)error {
    if (length == 0 || length > [_device maxBufferLength]) {
        return OBFail(error, OBErrorMemory, @"a buffer of %llu bytes is not possible; the device takes 1 to %llu",
                      (unsigned long long)length, (unsigned long long)[_device maxBufferLength]);
    }
    BOOL hidden = storage == MTLStorageModePrivate && ![self unified];
    id<MTLBuffer> buffer =
        [_device newBufferWithLength:length
                             options:hidden ? MTLResourceStorageModePrivate : MTLResourceStorageModeShared];
    if (buffer == nil && hidden) {
        return OBFail(error, OBErrorMemory,
                      @"no memory for a buffer of %llu bytes: of %llu on the device, %llu are used",
                      (unsigned long long)length, (unsigned long long)[self workingSet],
                      (unsigned long long)[_device currentAllocatedSize]);
    }
    if (buffer == nil) {
        return OBFail(error, OBErrorMemory, @"no memory for a buffer of %llu bytes", (unsigned long long)length);
    }
    return buffer;
}

- (id<MTLBuffer>)newBufferWithBytes:(const void *)bytes
                             length:(NSUInteger)length
                            storage:(MTLStorageMode)storage
                              error:(NSError **)error {
    id<MTLBuffer> buffer = [self newBufferWithLength:length storage:storage error:error];
    if (buffer == nil) return nil;
    ob_transfer transfer = {(ob_buffer *)buffer, 0, length, (void *)(uintptr_t)bytes};
    if ([_transfers write:&transfer count:1 error:error]) return buffer;
    [buffer release];
    return nil;
}

- (id<MTLBuffer>)newBufferWithMemory:(void *)memory length:(NSUInteger)length error:(NSError **)error {
    NSUInteger page = NSPageSize();
    if (memory == NULL || length == 0 || (uintptr_t)memory % page != 0 || length % page != 0) {
        return OBFail(error, OBErrorMemory,
                      @"memory at %p of %llu bytes cannot be wrapped: both must be multiples of the page size %llu",
                      memory, (unsigned long long)length, (unsigned long long)page);
    }
    if (length > [_device maxBufferLength]) {
        return OBFail(error, OBErrorMemory, @"a buffer over %llu bytes is not possible; the device takes up to %llu",
                      (unsigned long long)length, (unsigned long long)[_device maxBufferLength]);
    }
    id<MTLBuffer> buffer = [_device newBufferWithBytesNoCopy:memory
                                                      length:length
                                                     options:MTLResourceStorageModeShared
                                                 deallocator:nil];
    if (buffer == nil) {
        return OBFail(error, OBErrorMemory, @"the device cannot map %llu bytes", (unsigned long long)length);
    }
    return buffer;
}

@end
