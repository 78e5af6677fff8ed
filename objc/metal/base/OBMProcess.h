// Other programs: the shader compiler, and the one that finds lines in its products.
#import <Foundation/Foundation.h>

// Runs a command, blocks until it ends, and returns its exit status with all its output (autoreleased, never nil);
// -1 if it could not start. Any thread may call it.
int OBMRunProgram(NSArray *words, NSString **text);
