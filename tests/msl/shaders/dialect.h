#pragma once
// An index as a header of the host has it.
enum { kScaleIndex = 1 << 2 };
