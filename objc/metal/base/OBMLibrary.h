// A compiled shader library: a folder NAME.metallib with one shared object per instruction set.
#import "OBMObject.h"
#import "metal/api/MTLLibrary.h"
#import "metal/cpu/CPUNative.h"
#import "metal/abi/metallib.h"

@class CPUDevice;

@interface OBMLibrary : OBMObject <MTLLibrary> {
    CPUDevice *_device;
    void *_handle;
    const metallib *_library;
    void *_nativeHandle;
    const cpu_native_library *_native;
}

// Opens the best instruction set that the processor has, or the one in OB_ISA. nil and an error
// if the folder is missing, has none that fits, or was made for another version.
- (id)initWithDevice:(CPUDevice *)device path:(NSString *)path error:(NSError **)error;

// Compiles Metal source with the command in OB_METALC, or takes what an earlier run compiled.
- (id)initWithDevice:(CPUDevice *)device
              source:(NSString *)source
             options:(MTLCompileOptions *)options
               error:(NSError **)error;

// The kernel of that name that was written for this processor, or NULL.
- (cpu_native_entry)nativeEntryWithName:(const char *)name;

@end
