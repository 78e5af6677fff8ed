// What the device reports: misuse as an exception, failures at run time as NSErrors.
#import "MTLDefines.h"

// The name of the exception that misuse raises. Its reason is one line: what, where, how to fix.
extern NSString *const CPUValidationException;

void CPURaise(NSString *format, ...) __attribute__((noreturn, cold, format(__NSString__, 1, 2)));

// Stores an error with the text as its localizedDescription, if the caller wants one.
void CPUSetError(NSError **error, NSString *domain, NSInteger code, NSString *format, ...)
    __attribute__((cold, format(__NSString__, 4, 5)));
