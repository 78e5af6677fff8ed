// The objects of a device have in common a label, which any thread may read and set, and a reference count of their
// own.
//
// The count is atomic in the compiler's terms, so that a worker thread, which is no NSThread, may
// release the last reference, and thread checkers see the order.
#import "OBMAtomic.h"
#import <objc/runtime.h>

#import "OBMMetal.h"

@interface OBMObject : NSObject {
    obm_atomic_u32 _extraReferences;
    NSString *_label;
}

@property(copy, atomic) NSString *label;

// Raises an exception: a subclass should have its own version of this method, and has none.
- (id)mustBeOfSubclass:(SEL)method;

// "label 'x'" or the empty string, to name an object in an error.
- (NSString *)labelSuffix;

@end
