#import "OBFString.h"

#import <Foundation/Foundation.h>

#import "OBFMemory.h"

@implementation NSString (OBFBytes)

+ (id)stringWithText:(obf_text *)text {
    NSString *made;
    @try {
        made = [NSString alloc];
    } @catch (NSException *exception) {
        free(text->bytes);
        @throw;
    }
    return [[made initWithText:text] autorelease];
}

- (id)initWithText:(obf_text *)text {
    if (text->bytes == NULL) {
        @try {
            obf_append(text, "", 0);
        } @catch (NSException *exception) {
            [self release];
            @throw;
        }
    }
    _bytes = text->bytes;
    _size = (unsigned int)text->size;
    return self;
}

- (id)initWithText:(const char *)bytes size:(size_t)size {
    obf_text text = {0};
    @try {
        if (size < OBF_LONGEST) {
            text.bytes = obf_zeroed(size + 1, 1);
            text.room = size + 1;
        }
        obf_append(&text, bytes, size);
    } @catch (NSException *exception) {
        free(text.bytes);
        [self release];
        @throw;
    }
    return [self initWithText:&text];
}

+ (id)stringWithText:(const char *)bytes size:(size_t)size {
    return [[[NSString alloc] initWithText:bytes size:size] autorelease];
}

@end
