// Errors of the core: one domain, codes that the layers above turn into exception types. Any thread may use them.
#import "OBMetal.h"

extern NSString *const OBErrorDomain;

typedef enum {
    OBErrorDevice = 1,  // no such device, or the device refused
    OBErrorCompile,     // a library or kernel that cannot be had
    OBErrorArgument,    // the caller's arguments do not fit
    OBErrorMemory,      // a buffer that cannot be allocated or mapped
    OBErrorRun,         // a command buffer that failed
} OBErrorCode;

// Stores an autoreleased NSError in *error (which may be NULL) and returns nil, so that a failing
// initialiser or factory can end with `return OBFail(error, …)`.
id OBFail(NSError **error, OBErrorCode code, NSString *format, ...) NS_FORMAT_FUNCTION(3, 4);
