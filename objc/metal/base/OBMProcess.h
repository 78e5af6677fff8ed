// Other programs: the shader compiler, and what finds lines in its products.
#import <Foundation/Foundation.h>

// Runs a command and returns its exit status with all its output; -1 if it could not start.
int OBMRunProgram(NSArray *words, NSString **text);
