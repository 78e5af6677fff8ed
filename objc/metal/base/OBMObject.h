// The objects of a device have in common a label, which any thread may read and set, and a reference count of their
// own.
//
// The count is atomic in the compiler's terms, so that a worker thread, which is no NSThread, may
// release the last reference, and thread checkers see the order.
#import "OBMAtomic.h"
#import "metal/api/MTLDefines.h"

@interface OBMObject : NSObject {
    obm_atomic_u32 _extraReferences;
    NSString *_label;
}

@property(copy, atomic) NSString *label;

// "label 'x'" or the empty string, to name an object in an error.
- (NSString *)labelSuffix;

@end
