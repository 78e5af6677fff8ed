// A compiled shader library with the kernels written by hand that go with it.
#import "CPUNative.h"
#import "CPUSchedule.h"
#import "metal/base/OBMLibrary.h"

@interface CPULibrary : OBMLibrary {
    void *_nativeHandle;  // of dlopen
    cpu_code *_codes;     // one for each function of the library
}
@end
