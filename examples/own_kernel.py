"""A Metal shader of one's own on an array."""

import numpy as np

import pipeline as p

device = p.open_device("auto")
kernel = device.compile("""
    #include <metal_stdlib>
    using namespace metal;
    kernel void square(device const float *x [[buffer(0)]], device float *y [[buffer(1)]],
                       uint i [[thread_position_in_grid]]) {
        y[i] = x[i] * x[i];
    }
""").kernel("square")
x, y = np.arange(8, dtype=np.float32), np.zeros(8, np.float32)
kernel.run(x, y, grid=8)
print(y)
