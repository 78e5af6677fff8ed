#ifndef OBF_NSEXCEPTION_H
#define OBF_NSEXCEPTION_H

#import <Foundation/NSString.h>

@class NSDictionary;

extern NSString *const NSGenericException;
extern NSString *const NSInternalInconsistencyException;
extern NSString *const NSInvalidArgumentException;
extern NSString *const NSMallocException;
extern NSString *const NSRangeException;

@interface NSException : NSObject <NSCopying> {
    NSString *_name, *_reason;
    NSDictionary *_userInfo;
}

+ (id)exceptionWithName:(NSString *)name reason:(NSString *)reason userInfo:(NSDictionary *)info;
+ (void)raise:(NSString *)name format:(NSString *)format, ... __attribute__((noreturn));
- (id)initWithName:(NSString *)name reason:(NSString *)reason userInfo:(NSDictionary *)info;
- (void)raise __attribute__((noreturn));
- (NSString *)name;
- (NSString *)reason;
- (NSDictionary *)userInfo;

@end

#endif
