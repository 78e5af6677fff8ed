#import <Foundation/Foundation.h>

#import "OBFMemory.h"

@implementation NSLock

- (id)init {
    if (pthread_mutex_init(&_mutex, NULL) == 0) return self;
    [super dealloc];
    obf_raise_no_memory();
}

- (void)dealloc {
    pthread_mutex_destroy(&_mutex);
    [super dealloc];
}

- (void)lock {
    pthread_mutex_lock(&_mutex);
}

- (BOOL)tryLock {
    return pthread_mutex_trylock(&_mutex) == 0;
}

- (void)unlock {
    pthread_mutex_unlock(&_mutex);
}

@end
