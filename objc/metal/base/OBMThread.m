#import "OBMThread.h"

#import <Foundation/Foundation.h>

void obm_enter_foundation(void) {
    @try {
        [[[NSAutoreleasePool alloc] init] drain];
    } @catch (NSException *exception) {
        (void)exception;  // there is no memory for it now; it comes to be known when it asks again
    }
}
