#ifndef OBF_NSOBJCRUNTIME_H
#define OBF_NSOBJCRUNTIME_H

#include <limits.h>
#include <objc/objc.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef intptr_t NSInteger;
typedef uintptr_t NSUInteger;
typedef double NSTimeInterval;    // seconds
typedef struct objc_zone NSZone;  // there is one zone: methods take it for Apple's sake

#define NSIntegerMax LONG_MAX
#define NSIntegerMin LONG_MIN
#define NSUIntegerMax ULONG_MAX

enum { NSNotFound = NSIntegerMax };

#define NS_ENUM(type, name) \
    type name;              \
    enum
#define NS_OPTIONS(type, name) NS_ENUM(type, name)
#define NS_FORMAT_FUNCTION(format, first)  // GCC knows no formats of objects
#define NS_REQUIRES_NIL_TERMINATION __attribute__((sentinel))

typedef NS_ENUM(NSInteger, NSComparisonResult) { NSOrderedAscending = -1, NSOrderedSame, NSOrderedDescending };

@class NSString;

NSString *NSStringFromSelector(SEL selector);
NSString *NSStringFromClass(Class class);
Class NSClassFromString(NSString *name);  // Nil where there is none

// Bytes.
static inline NSUInteger NSPageSize(void) { return (NSUInteger)sysconf(_SC_PAGESIZE); }

#endif
