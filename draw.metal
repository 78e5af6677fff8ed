#include <metal_stdlib>
using namespace metal;
static int f() { return 1; }
