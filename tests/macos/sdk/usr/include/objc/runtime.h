#pragma once
#include <objc/objc.h>

Class object_getClass(id object);
BOOL sel_isEqual(SEL a, SEL b);
