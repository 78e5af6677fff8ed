#ifndef OBF_NSURL_H
#define OBF_NSURL_H

#import <Foundation/NSString.h>

// The address of a file.
@interface NSURL : NSObject <NSCopying> {
    NSString *_path;
}

+ (id)fileURLWithPath:(NSString *)path;
- (id)initFileURLWithPath:(NSString *)path;
- (NSString *)path;
- (BOOL)isFileURL;

@end

#endif
