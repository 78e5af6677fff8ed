// A compiled shader library whose kernels ask the checker before each access.
#import "metal/base/OBMLibrary.h"
#import "metal/checker/engine/CheckRun.h"

@interface CheckerLibrary : OBMLibrary {
    check_code *_codes;  // one for each function of the library
}
@end
