// What Metal's validation layer refuses in a dispatch, and in the calls that prepare it, as text for a misuse. Encoders
// and indirect commands find out quickly that something is wrong, and ask here what it is.
#import "OBMBindingTable.h"
#import "OBMMetal.h"

enum { OBM_THREADGROUP_MULTIPLE = 16 };  // of bytes, that a length of threadgroup memory is

@class OBMDevice;

// nil where nothing is wrong.
NSString *OBMFaultOfThreads(const obm_kernel *kernel, MTLSize threads);
NSString *OBMFaultOfThreadgroupLength(NSUInteger length, NSUInteger index);
NSString *OBMFaultOfPipelineState(id state, OBMDevice *device);

// Unless the buffer is one of this device and holds the range.
NSString *OBMFaultOfBuffer(id buffer, OBMDevice *device, NSUInteger offset, NSUInteger size);

// Something is wrong. `setter` names the calls that bind a buffer.
NSString *OBMFaultOfBindings(const obm_kernel *kernel, const obm_binding_table *table, NSString *setter);
NSString *OBMFaultOfGrid(const obm_kernel *kernel, MTLSize grid);
