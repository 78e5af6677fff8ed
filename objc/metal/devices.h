// What the table of devices knows beyond Metal.
#import <Foundation/Foundation.h>

// Why this machine has no device of that name, as one line that says what to do; nil where no such device is known.
NSString *MTLProblemOfDevice(NSString *name);
