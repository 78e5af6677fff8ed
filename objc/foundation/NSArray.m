#import <Foundation/Foundation.h>
#import <objc/message.h>

#import "OBFMemory.h"

static void refuseIndex(NSUInteger index, NSUInteger count) {
    [NSException raise:NSRangeException
                format:@"object %lu of an array of %lu", (unsigned long)index, (unsigned long)count];
}

// How many objects come before the nil that ends a list.
static NSUInteger countOf(id first, va_list more) {
    if (first == nil) return 0;
    NSUInteger count = 1;
    while (va_arg(more, id) != nil) count++;
    return count;
}

@interface NSArray ()
- (id)initWithFirst:(id)first more:(va_list)more;
@end

@implementation NSArray

+ (id)array {
    return [[[self alloc] init] autorelease];
}

+ (id)arrayWithArray:(NSArray *)other {
    return [[[self alloc] initWithArray:other] autorelease];
}

+ (id)arrayWithObject:(id)object {
    return [self arrayWithObjects:&object count:1];
}

+ (id)arrayWithObjects:(id)first, ... {
    va_list more;
    va_start(more, first);
    NSArray *made = [[[self alloc] initWithFirst:first more:more] autorelease];
    va_end(more);
    return made;
}

+ (id)arrayWithObjects:(const id[])objects count:(NSUInteger)count {
    return [[[self alloc] initWithObjects:objects count:count] autorelease];
}

- (id)initWithArray:(NSArray *)other {
    return [self initWithObjects:other->_objects count:other->_count];
}

- (id)initWithFirst:(id)first more:(va_list)more {
    va_list again;
    va_copy(again, more);
    NSUInteger count = countOf(first, again);
    va_end(again);
    id objects[count + 1];
    objects[0] = first;
    for (NSUInteger i = 1; i < count; i++) objects[i] = va_arg(more, id);
    return [self initWithObjects:objects count:count];
}

- (id)initWithObjects:(id)first, ... {
    va_list more;
    va_start(more, first);
    self = [self initWithFirst:first more:more];
    va_end(more);
    return self;
}

- (id)initWithObjects:(const id[])objects count:(NSUInteger)count {
    if (count == 0) return self;
    @try {
        _objects = obf_zeroed(count, sizeof *_objects);
        for (; _count < count; _count++) {
            if (objects[_count] == nil)
                [NSException raise:NSInvalidArgumentException
                            format:@"object %lu of an array is nil", (unsigned long)_count];
            _objects[_count] = [objects[_count] retain];
        }
    } @catch (NSException *exception) {
        [self release];
        @throw;
    }
    return self;
}

- (void)dealloc {
    for (NSUInteger i = 0; i < _count; i++) [_objects[i] release];
    free(_objects);
    [super dealloc];
}

- (id)copyWithZone:(NSZone *)zone {
    (void)zone;
    return [self retain];
}

- (id)mutableCopyWithZone:(NSZone *)zone {
    (void)zone;
    return [[NSMutableArray alloc] initWithArray:self];
}

- (NSUInteger)count {
    return _count;
}

- (id)objectAtIndex:(NSUInteger)index {
    if (index >= _count) refuseIndex(index, _count);
    return _objects[index];
}

- (id)firstObject {
    return _count == 0 ? nil : _objects[0];
}

- (id)lastObject {
    return _count == 0 ? nil : _objects[_count - 1];
}

- (NSUInteger)indexOfObject:(id)object {
    for (NSUInteger i = 0; i < _count; i++)
        if (_objects[i] == object || [_objects[i] isEqual:object]) return i;
    return NSNotFound;
}

- (BOOL)containsObject:(id)object {
    return [self indexOfObject:object] != NSNotFound;
}

- (BOOL)isEqualToArray:(NSArray *)other {
    if (other == nil || other->_count != _count) return NO;
    for (NSUInteger i = 0; i < _count; i++)
        if (![_objects[i] isEqual:other->_objects[i]]) return NO;
    return YES;
}

- (BOOL)isEqual:(id)other {
    return [other isKindOfClass:[NSArray class]] && [self isEqualToArray:other];
}

- (NSUInteger)hash {
    return _count;
}

- (NSString *)description {
    return [NSString stringWithFormat:@"(%@)", [self componentsJoinedByString:@", "]];
}

- (NSString *)componentsJoinedByString:(NSString *)separator {
    NSMutableString *text = [NSMutableString string];
    for (NSUInteger i = 0; i < _count; i++) [text appendFormat:@"%@%@", i > 0 ? separator : @"", _objects[i]];
    return [[text copy] autorelease];
}

- (NSArray *)arrayByAddingObject:(id)object {
    return [self arrayByAddingObjectsFromArray:[NSArray arrayWithObject:object]];
}

- (NSArray *)arrayByAddingObjectsFromArray:(NSArray *)other {
    NSMutableArray *made = [NSMutableArray arrayWithArray:self];
    [made addObjectsFromArray:other];
    return made;
}

static NSInteger bySelector(id a, id b, void *selector) {
    NSInteger (*method)(id, SEL, id) = (NSInteger (*)(id, SEL, id))(void *)objc_msg_lookup(a, *(SEL *)selector);
    return method(a, *(SEL *)selector, b);
}

- (NSArray *)sortedArrayUsingSelector:(SEL)comparator {
    return [self sortedArrayUsingFunction:bySelector context:&comparator];
}

// Equal objects keep their order. Lists are short: each object goes to its place among those before it.
- (NSArray *)sortedArrayUsingFunction:(NSInteger (*)(id, id, void *))comparator context:(void *)context {
    NSArray *sorted = [NSArray arrayWithArray:self];
    for (NSUInteger i = 1; i < sorted->_count; i++) {
        id object = sorted->_objects[i];
        NSUInteger at = i;
        for (; at > 0 && comparator(sorted->_objects[at - 1], object, context) > 0; at--)
            sorted->_objects[at] = sorted->_objects[at - 1];
        sorted->_objects[at] = object;
    }
    return sorted;
}

- (NSUInteger)countByEnumeratingWithState:(NSFastEnumerationState *)state objects:(id[])buffer count:(NSUInteger)count {
    (void)buffer, (void)count;
    if (state->state != 0) return 0;
    state->state = 1;
    state->itemsPtr = _objects;
    state->mutationsPtr = &state->extra[0];
    return _count;
}

@end

@implementation NSMutableArray

+ (id)arrayWithCapacity:(NSUInteger)capacity {
    return [[[self alloc] initWithCapacity:capacity] autorelease];
}

- (id)initWithCapacity:(NSUInteger)capacity {
    (void)capacity;
    return [self init];
}

- (id)initWithObjects:(const id[])objects count:(NSUInteger)count {
    self = [super initWithObjects:objects count:count];
    _room = count;
    return self;
}

- (id)copyWithZone:(NSZone *)zone {
    (void)zone;
    return [[NSArray alloc] initWithArray:self];
}

- (void)addObject:(id)object {
    [self insertObject:object atIndex:_count];
}

- (void)addObjectsFromArray:(NSArray *)other {
    for (NSUInteger i = 0, count = [other count]; i < count; i++) [self addObject:[other objectAtIndex:i]];
}

- (void)insertObject:(id)object atIndex:(NSUInteger)index {
    if (object == nil) [NSException raise:NSInvalidArgumentException format:@"nil is added to an array"];
    if (index > _count) refuseIndex(index, _count);
    if (_count == _room) {
        NSUInteger room = obf_room(_room, _count + 1);
        _objects = obf_resized(_objects, room, sizeof *_objects);
        _room = room;
    }
    memmove(_objects + index + 1, _objects + index, (_count - index) * sizeof *_objects);
    _objects[index] = [object retain];
    _count++;
    _changes++;
}

- (void)replaceObjectAtIndex:(NSUInteger)index withObject:(id)object {
    if (object == nil) [NSException raise:NSInvalidArgumentException format:@"nil is put into an array"];
    if (index >= _count) refuseIndex(index, _count);
    id before = _objects[index];
    _objects[index] = [object retain];
    [before release];
}

- (void)removeObjectAtIndex:(NSUInteger)index {
    if (index >= _count) refuseIndex(index, _count);
    id before = _objects[index];
    _count--;
    _changes++;
    memmove(_objects + index, _objects + index + 1, (_count - index) * sizeof *_objects);
    [before release];
}

- (void)removeObject:(id)object {
    for (NSUInteger i = _count; i-- > 0;)
        if ([_objects[i] isEqual:object]) [self removeObjectAtIndex:i];
}

- (void)removeObjectIdenticalTo:(id)object {
    for (NSUInteger i = _count; i-- > 0;)
        if (_objects[i] == object) [self removeObjectAtIndex:i];
}

- (void)removeLastObject {
    [self removeObjectAtIndex:_count - 1];
}

- (void)removeAllObjects {
    while (_count > 0) [self removeObjectAtIndex:_count - 1];
}

- (NSUInteger)countByEnumeratingWithState:(NSFastEnumerationState *)state objects:(id[])buffer count:(NSUInteger)count {
    NSUInteger found = [super countByEnumeratingWithState:state objects:buffer count:count];
    state->mutationsPtr = &_changes;
    return found;
}

@end
