// How a system's own program finds the lines of code: CheckerSymbolsLinux.m and CheckerSymbolsDarwin.m each know one. Any
// thread may call these.
#import <Foundation/Foundation.h>

// The words of a command that looks up addresses, texts such as "0x0000000000001234" from the start of a library.
NSArray *CheckerSymbolsCommand(NSString *library, NSArray *addresses);

// Reads what that command printed. Each address gets an array of "file:line": its own line comes first, then the lines of
// the calls that were inlined around it.
NSDictionary *CheckerSymbolsFound(NSString *printed, NSArray *addresses);
