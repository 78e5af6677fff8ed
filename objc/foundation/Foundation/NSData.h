#ifndef OBF_NSDATA_H
#define OBF_NSDATA_H

#import <Foundation/NSObject.h>

@class NSString;

@interface NSData : NSObject <NSCopying> {
    void *_bytes;
    NSUInteger _length;
    BOOL _keeps;  // the memory is somebody else's
}

+ (id)data;
+ (id)dataWithBytes:(const void *)bytes length:(NSUInteger)length;
+ (id)dataWithBytesNoCopy:(void *)bytes length:(NSUInteger)length freeWhenDone:(BOOL)frees;
+ (id)dataWithContentsOfFile:(NSString *)path;  // nil where the file cannot be read
- (id)initWithBytes:(const void *)bytes length:(NSUInteger)length;
- (id)initWithBytesNoCopy:(void *)bytes length:(NSUInteger)length freeWhenDone:(BOOL)frees;
- (const void *)bytes;
- (NSUInteger)length;
- (BOOL)isEqualToData:(NSData *)other;

@end

@interface NSMutableData : NSData {
    NSUInteger _room;
}

+ (id)dataWithLength:(NSUInteger)length;  // zeroes
- (id)initWithLength:(NSUInteger)length;
- (void *)mutableBytes;
- (void)appendBytes:(const void *)bytes length:(NSUInteger)length;

@end

#endif
