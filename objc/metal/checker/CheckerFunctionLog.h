// One finding of the checker as Metal's API tells it.
#import "core/OBExtensions.h"
#import "metal/base/OBMMetal.h"
#import "metal/base/OBMObject.h"
#import "metal/checker/engine/CheckFinding.h"

@interface CheckerFunctionLog : NSObject <MTLFunctionLog, MTLFunctionLogDebugLocation, OBDetailedLog> {
    NSMutableDictionary *_details;
}

// Logs of findings, with their lines looked up. The caller owns the array.
+ (NSArray *)newLogsOfFindings:(const check_finding *)findings count:(size_t)count;

// The parts of the description by name, each a string: "kind", "severity", "kernel", "label", "file", "line",
// "access", "thread", "threadgroup", the same of the other side with "other " before it, "name", "index",
// "space", "offset", "length", "size", "text", "remedy", "count" and "frames", the calls that lead to the line.
- (NSDictionary *)details;

@end
