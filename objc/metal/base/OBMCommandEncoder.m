#import "OBMCommandEncoder.h"

#import "OBMDevice.h"
#import "OBMDispatchFaults.h"
#import "OBMError.h"

@implementation OBMCommandEncoder

- (id)initWithCommandBuffer:(OBMCommandBuffer *)commandBuffer {
    self = [super init];
    if (self == nil) return nil;
    _commandBuffer = [commandBuffer retain];
    _recording = [commandBuffer recording];
    _device = [commandBuffer device];
    _bufferClass = [(OBMDevice *)_device bufferClass];
    _retains = [commandBuffer retainedReferences];
    return self;
}

- (void)dealloc {
    if (!_ended) [_commandBuffer closeEncoder];
    [_commandBuffer release];
    [super dealloc];
}

- (id<MTLDevice>)device {
    return _device;
}

- (void)misuseIn:(NSString *)method format:(NSString *)format, ... {
    va_list arguments;
    va_start(arguments, format);
    NSString *text = [[[NSString alloc] initWithFormat:format arguments:arguments] autorelease];
    va_end(arguments);
    OBMRaise(@"%@: encoder%@ of command buffer%@: %@", method, [self labelSuffix], [_commandBuffer labelSuffix], text);
}

- (void)refuse:(NSString *)fault for:(NSString *)method {
    if (fault != nil) [self misuseIn:method format:@"%@", fault];
}

- (void)requireOpenFor:(NSString *)method {
    if (_ended) [self misuseIn:method format:@"encoding has ended; make a new encoder"];
}

- (void)requireBuffer:(id)buffer offset:(NSUInteger)offset size:(NSUInteger)size for:(NSString *)method {
    [self refuse:OBMFaultOfBuffer(buffer, (OBMDevice *)_device, offset, size) for:method];
}

- (void)failForMemory {
    obm_recording_fail_for_memory(_recording);
}

- (void)endEncoding {
    [self requireOpenFor:@"endEncoding"];
    _ended = YES;
    [_commandBuffer closeEncoder];
}

- (void)insertDebugSignpost:(NSString *)string {
    [self requireOpenFor:@"insertDebugSignpost"];
    if (string == nil) [self misuseIn:@"insertDebugSignpost" format:@"the name is nil"];
}

- (void)pushDebugGroup:(NSString *)string {
    [self requireOpenFor:@"pushDebugGroup"];
    if (string == nil) [self misuseIn:@"pushDebugGroup" format:@"the name is nil"];
    _debugGroups++;
}

- (void)popDebugGroup {
    [self requireOpenFor:@"popDebugGroup"];
    if (_debugGroups == 0) [self misuseIn:@"popDebugGroup" format:@"there is no open debug group"];
    _debugGroups--;
}

@end
