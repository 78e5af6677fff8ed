"""A layer of experts as a chain: one command buffer, however many steps."""

import numpy as np

import pipeline as p

rng = np.random.default_rng(0)


def array(*shape: int) -> np.ndarray:
    return (rng.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)


pipe = p.Pipeline(device="auto", rows=2)
x = pipe.input("x", (2, 64))
ids, weights = pipe.moe_router(x, array(8, 64), top_k=2)
y = pipe.experts(x, ids, weights, array(8, 32, 64), array(8, 32, 64), array(8, 64, 32))
chain = pipe.build(outputs=y)
print(chain)
print(chain.run(x=array(2, 64)).shape)
