#ifndef OBF_NSLOCK_H
#define OBF_NSLOCK_H

#include <pthread.h>

#import <Foundation/NSObject.h>

@protocol NSLocking
- (void)lock;
- (void)unlock;
@end

@interface NSLock : NSObject <NSLocking> {
    pthread_mutex_t _mutex;
}
- (BOOL)tryLock;
@end

#endif
