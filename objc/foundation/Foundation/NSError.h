#ifndef OBF_NSERROR_H
#define OBF_NSERROR_H

#import <Foundation/NSString.h>

@class NSDictionary;

typedef NSString *NSErrorDomain;
extern NSString *const NSLocalizedDescriptionKey;
extern NSErrorDomain const NSPOSIXErrorDomain;  // codes are errno's

@interface NSError : NSObject <NSCopying> {
    NSString *_domain;
    NSInteger _code;
    NSDictionary *_userInfo;
}

+ (id)errorWithDomain:(NSErrorDomain)domain code:(NSInteger)code userInfo:(NSDictionary *)info;
- (id)initWithDomain:(NSErrorDomain)domain code:(NSInteger)code userInfo:(NSDictionary *)info;
- (NSErrorDomain)domain;
- (NSInteger)code;
- (NSDictionary *)userInfo;
- (NSString *)localizedDescription;

@end

#endif
