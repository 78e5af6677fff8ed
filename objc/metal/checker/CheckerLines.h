// From addresses in a shader library to lines of its sources, by its debug information.
#import <Foundation/Foundation.h>

@interface CheckerLines : NSObject {
    NSMutableDictionary *_wanted;  // library to a set of addresses
    NSMutableDictionary *_found;   // library to address to frames
}

// `pc` is where a call returns to, from the start of the library. All that is wanted is looked up at once.
- (void)want:(uint32_t)pc in:(NSString *)library;

// "file:line" of the call, and of what called the function that was inlined there, innermost first;
// without those in the standard library. Empty where nothing is known.
- (NSArray *)framesOf:(uint32_t)pc in:(NSString *)library;

@end
