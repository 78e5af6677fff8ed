// A dispatch of a chain, checked and laid out for encoding: four messages, no lookups.
//
// Plain data of the chain that owns it, which retains what it points to. It never changes once the chain is made.
#import "OBKernel.h"
#import "onebuf.h"

enum { OB_COUNTS_BYTES = 12 };  // of an indirect dispatch's counts

typedef struct OBDispatch {
    OBKernel *kernel;
    id<MTLComputePipelineState> state;
    id<MTLBuffer> buffers[OB_MAX_BINDINGS];
    NSUInteger offsets[OB_MAX_BINDINGS];
    NSUInteger lengths[OB_MAX_BINDINGS];
    NSUInteger slots;       // of buffers, up to the last that is bound
    NSUInteger structSlot;  // of the struct argument; NSNotFound without one
    MTLSize threadgroups, threads;
    MTLSize grid;            // threads in all, which then count instead of threadgroups; width 0: they do
    id<MTLBuffer> indirect;  // has the counts of threadgroups, at indirectOffset; nil: they are known
    NSUInteger indirectOffset;
    NSUInteger threadgroupMemory[OB_MAX_BINDINGS];
    NSUInteger memorySlots;
    NSUInteger rowsPerThreadgroup;
    BOOL leading;        // it goes by the leading rows of a run
    ptrdiff_t conflict;  // the dispatch that it waits for at the barrier before it; -1: no barrier
} OBDispatch;

// How many of a run's rows a dispatch goes by; 0 for as many as it was made for.
NSUInteger OBRowsOfRun(BOOL leading, ob_rows rows);

// The threadgroups of a run.
MTLSize OBThreadgroupsForRows(const OBDispatch *dispatch, ob_rows rows);

// The most rows that it has threadgroups for; 0 where they do not depend on the rows of a run.
NSUInteger OBRowsOfDispatch(const OBDispatch *dispatch);

// The label that the caller gave, never nil.
NSString *OBLabelOfDispatch(const ob_dispatch *dispatch);

// Lays out all but the struct argument and the barrier. NO and an error naming the dispatch when a binding is
// misaligned, out of its buffer, or of a slot that the kernel lacks, or when a grid or threadgroup is not possible.
BOOL OBLayOutDispatch(OBDispatch *laidOut, const ob_dispatch *dispatch, NSError **error);

// NO and an error naming the dispatch when a buffer argument is not bound.
BOOL OBCheckComplete(const OBDispatch *laidOut, NSString *label, NSError **error);
