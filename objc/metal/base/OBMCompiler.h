// Metal source to a library folder, by the command in OB_METALC, with a cache on disk.
#import "OBMMetal.h"

@class OBMDevice;

// The path of the folder (autoreleased), in OB_CACHE, $XDG_CACHE_HOME/onebuf or ~/.cache/onebuf, compiled for the
// device. nil and an error with the compiler's messages if it does not compile. Threads and processes that compile
// the same text at once all succeed.
NSString *OBMCompileSource(NSString *source, MTLCompileOptions *options, OBMDevice *device, NSError **error);

// The folder of what is compiled once and kept, which may not be there yet; nil where the environment names none.
NSString *OBMCacheFolder(void);

// Makes it where it is missing. NO and an error when it cannot be used: nobody else may put files there, because what is
// in the cache is loaded and run.
BOOL OBMOpenCache(NSString *cache, NSError **error);

// Makes a folder, and those above it as any folder is. NO, and errno says why, if that is not possible.
BOOL OBMMakeFolder(NSString *path, mode_t mode);
