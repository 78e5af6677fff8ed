// How devices report: misuse as an exception, failures at run time as NSErrors. Any thread may call these.
#import "OBMMetal.h"

// The name of the exception that misuse raises. Its reason is one line: what, where, how to fix.
extern NSString *const OBMValidationException;

void OBMRaise(NSString *format, ...) __attribute__((noreturn, cold, format(__NSString__, 1, 2)));

// Stores an error with the text as its localizedDescription, if the caller wants one.
void OBMSetError(NSError **error, NSString *domain, NSInteger code, NSString *format, ...)
    __attribute__((cold, format(__NSString__, 4, 5)));
