"""Shaders as text through the strict checks."""

import pytest

from pipeline import strict

HEAD = "#include <metal_stdlib>\nusing namespace metal;\n"


needs_clang = pytest.mark.skipif(not strict.available(), reason=strict.INSTALL)


def check(folder, text, **options):
    file = folder / "shader.metal"
    file.write_text(HEAD + text)
    return strict.check([file], **options)
