#import <Foundation/Foundation.h>

// Its keys are the members themselves, not copies of them.
@interface OBFMembers : NSMutableDictionary
@end

@implementation OBFMembers
- (id)newKey:(id)key {
    return [key retain];
}
@end

@implementation NSSet

+ (id)set {
    return [[[self alloc] init] autorelease];
}

- (id)init {
    @try {
        _members = [[OBFMembers alloc] init];
    } @catch (NSException *exception) {
        [self release];
        @throw;
    }
    return self;
}

- (void)dealloc {
    [_members release];
    [super dealloc];
}

- (NSUInteger)count {
    return [_members count];
}

- (BOOL)containsObject:(id)object {
    return [_members objectForKey:object] != nil;
}

- (NSArray *)allObjects {
    return [_members allKeys];
}

- (NSUInteger)countByEnumeratingWithState:(NSFastEnumerationState *)state objects:(id[])buffer count:(NSUInteger)count {
    return [_members countByEnumeratingWithState:state objects:buffer count:count];
}

@end

@implementation NSMutableSet

- (void)addObject:(id)object {
    if (![self containsObject:object]) [_members setObject:object forKey:object];
}

- (void)removeObject:(id)object {
    [_members removeObjectForKey:object];
}

- (void)removeAllObjects {
    [_members removeAllObjects];
}

@end
