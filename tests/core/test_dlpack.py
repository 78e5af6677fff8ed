"""Arrays of other libraries go in and out by DLPack, without a copy where they lie on the host."""

import numpy as np
import pytest

import pipeline as p
from pipeline.device.buffers import host_array

pytestmark = pytest.mark.one_processor


class Foreign:
    """An array of another library, which has nothing of NumPy's but the protocol."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


class Elsewhere(Foreign):
    """One whose memory NumPy cannot reach, but which it can copy."""

    def __dlpack_device__(self):
        return 2, 0

    def __dlpack__(self, **options):
        raise BufferError("on a GPU")

    def __array__(self, dtype=None, copy=None):
        return self._array.copy()


def test_in(processor):
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert np.shares_memory(host_array(Foreign(array)), array)
    assert (host_array(Elsewhere(array)) == array).all() and host_array([1.5]).dtype == np.float64
    pipe = p.Pipeline(processor, rows=3)
    chain = pipe.build(outputs=pipe.rms_norm(pipe.input("x", (3, 4)), weight=np.ones(4, np.float32)))
    expected = chain.run(x=array)
    assert (chain.run(x=Foreign(array)) == expected).all() and (chain.run(x=Elsewhere(array)) == expected).all()
    added = [p.ops.fused_norm_add(x, x, np.ones(4, np.float32), device=processor) for x in (array, Foreign(array))]
    np.testing.assert_array_equal(*added)


def test_out(processor):
    array = np.arange(6, dtype=np.float32)
    buffer = processor.buffer(Foreign(array))
    seen = np.from_dlpack(buffer)
    assert (seen == array).all() and np.shares_memory(seen, buffer.array) and not np.shares_memory(seen, array)
    del buffer  # its memory stays while somebody sees it
    assert (seen == array).all()
