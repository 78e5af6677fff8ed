#ifndef OBF_NSFILEMANAGER_H
#define OBF_NSFILEMANAGER_H

#import <Foundation/NSObject.h>

@class NSError, NSString;

@interface NSFileManager : NSObject

+ (NSFileManager *)defaultManager;
// A folder goes with all that is in it; links are not followed.
- (BOOL)removeItemAtPath:(NSString *)path error:(NSError **)error;

@end

#endif
