// What Onebuf uses of Metal, with Apple's selectors and types: the same headers that it has where there is no Metal.
#pragma once
#import "metal/api/Metal.h"
