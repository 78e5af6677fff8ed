#import "OBError.h"

NSString *const OBErrorDomain = @"Onebuf";

id OBFail(NSError **error, OBErrorCode code, NSString *format, ...) {
    if (error == NULL) return nil;
    va_list list;
    va_start(list, format);
    NSString *message = [[[NSString alloc] initWithFormat:format arguments:list] autorelease];
    va_end(list);
    if (message == nil) message = @"no memory left";
    NSDictionary *info = [NSDictionary dictionaryWithObject:message forKey:NSLocalizedDescriptionKey];
    *error = [NSError errorWithDomain:OBErrorDomain code:code userInfo:info];
    return nil;
}
