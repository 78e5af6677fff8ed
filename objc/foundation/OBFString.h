// How strings are made of bytes.
#import <Foundation/NSString.h>

#import "OBFText.h"

@interface NSString (OBFBytes)
// Takes the bytes over, and frees them where it raises.
+ (id)stringWithText:(obf_text *)text;
- (id)initWithText:(obf_text *)text;
- (id)initWithText:(const char *)bytes size:(size_t)size;  // a copy
+ (id)stringWithText:(const char *)bytes size:(size_t)size;
@end
