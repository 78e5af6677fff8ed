// Metal source to a library folder, by the command in OB_METALC, with a cache on disk.
#import "metal/api/MTLLibrary.h"

@class OBMDevice;

// The path of the folder (autoreleased), in OB_CACHE, $XDG_CACHE_HOME/onebuf or ~/.cache/onebuf, compiled for the
// device. nil and an error with the compiler's messages if it does not compile. Threads and processes that compile
// the same text at once all succeed.
NSString *OBMCompileSource(NSString *source, MTLCompileOptions *options, OBMDevice *device, NSError **error);
