// Metal source to a library folder, by the command in OB_METALC, with a cache on disk.
#import "MTLLibrary.h"

// The path of the folder, in OB_CACHE, $XDG_CACHE_HOME/onebuf or ~/.cache/onebuf. nil and an error
// with the compiler's messages if it does not compile. `versions` remembers what a compiler
// answered to --version, from call to call.
NSString *CPUCompileSource(NSString *source, MTLCompileOptions *options, NSMutableDictionary *versions,
                           NSError **error);
