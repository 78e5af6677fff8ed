// Other programs: the shader compiler, and the one that finds lines in its products.
#import <Foundation/Foundation.h>

// The words of a command line, as a shell splits it: blanks part words, unless they are quoted or follow a backslash.
// Nothing is expanded. Autoreleased. Any thread may call it.
NSArray *OBMWordsOf(NSString *command);

// Runs a command, blocks until it ends, and returns its exit status with all its output (autoreleased, never nil);
// -1 if it could not start. Any thread may call it.
int OBMRunProgram(NSArray *words, NSString **text);
