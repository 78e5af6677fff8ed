#import <Foundation/Foundation.h>

#import "OBFMemory.h"

@implementation NSDictionary

// Slots are twice as many as there is room for keys, and a power of two: a search ends at an empty one.
static NSUInteger slotsFor(NSUInteger room) { return 2 * room; }

// Where the key stands, or the empty slot where it would stand. Needs room.
- (uint32_t *)slotOf:(id)key {
    NSUInteger mask = slotsFor(_room) - 1, hash = [key hash];
    for (NSUInteger i = (hash ^ hash >> 29) & mask;; i = (i + 1) & mask) {
        uint32_t place = _slots[i];
        if (place == 0 || _keys[place - 1] == key || [_keys[place - 1] isEqual:key]) return &_slots[i];
    }
}

- (void)fillSlots {
    memset(_slots, 0, slotsFor(_room) * sizeof *_slots);
    for (NSUInteger i = 0; i < _count; i++) *[self slotOf:_keys[i]] = (uint32_t)(i + 1);
}

- (void)makeRoom {
    if (_count < _room) return;
    NSUInteger room = _room == 0 ? 4 : 2 * _room;
    if (room > OBF_LONGEST / 2) obf_raise_no_memory();
    _keys = obf_resized(_keys, room, sizeof *_keys);
    _values = obf_resized(_values, room, sizeof *_values);
    _slots = obf_resized(_slots, slotsFor(room), sizeof *_slots);
    _room = room;
    [self fillSlots];
}

- (id)newKey:(id)key {
    return [key copy];
}

- (void)set:(id)object forKey:(id)key {
    if (object == nil || key == nil)
        [NSException raise:NSInvalidArgumentException format:@"nil is put into a dictionary"];
    [self makeRoom];
    uint32_t *slot = [self slotOf:key];
    if (*slot != 0) {
        id before = _values[*slot - 1];
        _values[*slot - 1] = [object retain];
        [before release];
        return;
    }
    _keys[_count] = [self newKey:key];
    _values[_count] = [object retain];
    *slot = (uint32_t)++_count;
    _changes++;
}

- (void)add:(NSDictionary *)other {
    for (NSUInteger i = 0; other != nil && i < other->_count; i++) [self set:other->_values[i] forKey:other->_keys[i]];
}

+ (id)dictionary {
    return [[[self alloc] init] autorelease];
}

+ (id)dictionaryWithDictionary:(NSDictionary *)other {
    return [[[self alloc] initWithDictionary:other] autorelease];
}

+ (id)dictionaryWithObject:(id)object forKey:(id)key {
    NSDictionary *made = [self dictionary];
    [made set:object forKey:key];
    return made;
}

+ (id)dictionaryWithObjectsAndKeys:(id)first, ... {
    NSDictionary *made = [self dictionary];
    va_list more;
    va_start(more, first);
    for (id object = first; object != nil; object = va_arg(more, id)) [made set:object forKey:va_arg(more, id)];
    va_end(more);
    return made;
}

- (id)initWithDictionary:(NSDictionary *)other {
    @try {
        [self add:other];
    } @catch (NSException *exception) {
        [self release];
        @throw;
    }
    return self;
}

- (void)dealloc {
    for (NSUInteger i = 0; i < _count; i++) {
        [_keys[i] release];
        [_values[i] release];
    }
    free(_keys);
    free(_values);
    free(_slots);
    [super dealloc];
}

- (id)copyWithZone:(NSZone *)zone {
    (void)zone;
    return [self retain];
}

- (id)mutableCopyWithZone:(NSZone *)zone {
    (void)zone;
    return [[NSMutableDictionary alloc] initWithDictionary:self];
}

- (NSUInteger)count {
    return _count;
}

- (id)objectForKey:(id)key {
    if (_count == 0 || key == nil) return nil;
    uint32_t place = *[self slotOf:key];
    return place == 0 ? nil : _values[place - 1];
}

- (NSArray *)allKeys {
    return [NSArray arrayWithObjects:_keys count:_count];
}

- (NSArray *)allValues {
    return [NSArray arrayWithObjects:_values count:_count];
}

- (BOOL)isEqualToDictionary:(NSDictionary *)other {
    if (other == nil || other->_count != _count) return NO;
    for (NSUInteger i = 0; i < _count; i++)
        if (![_values[i] isEqual:[other objectForKey:_keys[i]]]) return NO;
    return YES;
}

- (BOOL)isEqual:(id)other {
    return [other isKindOfClass:[NSDictionary class]] && [self isEqualToDictionary:other];
}

- (NSUInteger)hash {
    return _count;
}

- (NSString *)description {
    NSMutableString *text = [NSMutableString string];
    for (NSUInteger i = 0; i < _count; i++) [text appendFormat:i > 0 ? @", %@: %@" : @"%@: %@", _keys[i], _values[i]];
    return [NSString stringWithFormat:@"{%@}", text];
}

- (NSUInteger)countByEnumeratingWithState:(NSFastEnumerationState *)state objects:(id[])buffer count:(NSUInteger)count {
    (void)buffer, (void)count;
    if (state->state != 0) return 0;
    state->state = 1;
    state->itemsPtr = _keys;
    state->mutationsPtr = &_changes;
    return _count;
}

@end

@implementation NSMutableDictionary

+ (id)dictionaryWithCapacity:(NSUInteger)capacity {
    return [[[self alloc] initWithCapacity:capacity] autorelease];
}

- (id)initWithCapacity:(NSUInteger)capacity {
    (void)capacity;
    return [self init];
}

- (id)copyWithZone:(NSZone *)zone {
    (void)zone;
    return [[NSDictionary alloc] initWithDictionary:self];
}

- (void)setObject:(id)object forKey:(id)key {
    [self set:object forKey:key];
}

- (void)addEntriesFromDictionary:(NSDictionary *)other {
    [self add:other];
}

- (void)removeObjectForKey:(id)key {
    if (_count == 0 || key == nil) return;
    uint32_t place = *[self slotOf:key];
    if (place == 0) return;
    id oldKey = _keys[place - 1], oldValue = _values[place - 1];
    NSUInteger after = _count - place;
    memmove(_keys + place - 1, _keys + place, after * sizeof *_keys);
    memmove(_values + place - 1, _values + place, after * sizeof *_values);
    _count--;
    _changes++;
    [self fillSlots];
    [oldKey release];
    [oldValue release];
}

- (void)removeAllObjects {
    id *keys = _keys, *values = _values;
    NSUInteger count = _count;
    free(_slots);
    _keys = _values = NULL;
    _slots = NULL;
    _count = _room = 0;
    _changes++;
    for (NSUInteger i = 0; i < count; i++) {
        [keys[i] release];
        [values[i] release];
    }
    free(keys);
    free(values);
}

@end
