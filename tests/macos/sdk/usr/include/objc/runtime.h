#pragma once
#include <objc/objc.h>

Class object_getClass(id object);
