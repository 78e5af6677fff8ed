#import "CPUError.h"

#import "MTLCommandBuffer.h"
#import "MTLLibrary.h"

NSString *const CPUValidationException = @"MTLValidationException";
NSErrorDomain const MTLCommandBufferErrorDomain = @"MTLCommandBufferErrorDomain";
NSErrorDomain const MTLLibraryErrorDomain = @"MTLLibraryErrorDomain";

void CPURaise(NSString *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    NSString *reason = [[[NSString alloc] initWithFormat:format arguments:arguments] autorelease];
    va_end(arguments);
    @throw [NSException exceptionWithName:CPUValidationException reason:reason userInfo:nil];
}

void CPUSetError(NSError **error, NSString *domain, NSInteger code, NSString *format, ...) {
    if (error == NULL) return;
    va_list arguments;
    va_start(arguments, format);
    NSString *text = [[[NSString alloc] initWithFormat:format arguments:arguments] autorelease];
    va_end(arguments);
    NSDictionary *info = [NSDictionary dictionaryWithObject:text forKey:NSLocalizedDescriptionKey];
    *error = [NSError errorWithDomain:domain code:code userInfo:info];
}
