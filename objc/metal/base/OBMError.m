#import "OBMError.h"

#import "OBMMetal.h"

NSString *const OBMValidationException = @"MTLValidationException";

void OBMRaise(NSString *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    NSString *reason = [[[NSString alloc] initWithFormat:format arguments:arguments] autorelease];
    va_end(arguments);
    @throw [NSException exceptionWithName:OBMValidationException reason:reason userInfo:nil];
}

void OBMSetError(NSError **error, NSString *domain, NSInteger code, NSString *format, ...) {
    if (error == NULL) return;
    va_list arguments;
    va_start(arguments, format);
    NSString *text = [[[NSString alloc] initWithFormat:format arguments:arguments] autorelease];
    va_end(arguments);
    NSDictionary *info = [NSDictionary dictionaryWithObject:text forKey:NSLocalizedDescriptionKey];
    *error = [NSError errorWithDomain:domain code:code userInfo:info];
}
