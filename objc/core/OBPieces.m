#import "OBPieces.h"
#import "OBDevice.h"

// Half of what the system allows: a GPU may get slower while it is warm, and other programs use it.
static const double SHARE_OF_LONGEST = 0.5;

// The guess for a dispatch that was not measured yet: it reads its bytes once per row, at a rate that every GPU exceeds, or
// it takes a microsecond per threadgroup, whichever is longer.
static const double BYTES_PER_SECOND = 2.5e11, SECONDS_PER_THREADGROUP = 1e-6;

// So few rows are a step of decoding: it reads what it reads once, and is not cut before it was measured.
enum { FEW_ROWS = 16 };

@implementation OBPieces

+ (OBPieces *)piecesWithDevice:(OBDevice *)device dispatches:(const OBDispatch *)dispatches count:(NSUInteger)count {
    OBPieces *pieces = [[[OBPieces alloc] init] autorelease];
    if (pieces == nil) return nil;
    pieces->_dispatches = dispatches;
    pieces->_count = count;
    pieces->_longest = SHARE_OF_LONGEST * [device longestCommandBuffer];
    pieces->_seconds = calloc(count, sizeof *pieces->_seconds);
    pieces->_lock = [[NSLock alloc] init];
    return pieces->_seconds != NULL && pieces->_lock != nil ? pieces : nil;
}

- (void)dealloc {
    free(_seconds);
    [_lock release];
    [super dealloc];
}

- (BOOL)watched {
    return _longest > 0;
}

static double threadgroupsOf(const OBDispatch *dispatch, ob_rows rows) {
    if (dispatch->indirect != nil) return 1;  // the device decides
    MTLSize size = OBThreadgroupsForRows(dispatch, rows);
    if (dispatch->grid.width > 0) {
        const MTLSize *grid = &dispatch->grid, *threads = &dispatch->threads;
        size = MTLSizeMake((grid->width + threads->width - 1) / threads->width,
                           (grid->height + threads->height - 1) / threads->height,
                           (grid->depth + threads->depth - 1) / threads->depth);
    }
    return (double)size.width * (double)size.height * (double)size.depth;
}

// 0 rows in `rows` are as many as the dispatch was made for.
static double rowsOf(const OBDispatch *dispatch, ob_rows rows) {
    NSUInteger most = OBRowsOfDispatch(dispatch), asked = OBRowsOfRun(dispatch->leading, rows);
    if (most == 0) return 1;
    return (double)(asked == 0 || asked > most ? most : asked);
}

static double guess(const OBDispatch *dispatch, ob_rows rows) {
    double bytes = 0, few = rowsOf(dispatch, rows);
    for (NSUInteger i = 0; i < dispatch->slots; i++) bytes += (double)dispatch->lengths[i];
    double reading = bytes * few / BYTES_PER_SECOND;
    double starting = threadgroupsOf(dispatch, rows) * SECONDS_PER_THREADGROUP;
    return reading > starting ? reading : starting;
}

- (double)secondsOf:(NSUInteger)index rows:(ob_rows)rows few:(BOOL)few {
    const OBDispatch *dispatch = &_dispatches[index];
    if (_seconds[index] > 0) return _seconds[index] * threadgroupsOf(dispatch, rows);
    return few ? 0 : guess(dispatch, rows);
}

- (BOOL)areFew:(ob_rows)rows {
    for (NSUInteger i = 0; i < _count; i++) {
        if (rowsOf(&_dispatches[i], rows) > FEW_ROWS) return NO;
    }
    return YES;
}

- (NSUInteger)lengthFrom:(NSUInteger)first rows:(ob_rows)rows {
    if (_longest <= 0) return _count - first;
    BOOL few = [self areFew:rows];
    double total = 0;
    NSUInteger index = first;
    [_lock lock];
    for (; index < _count; index++) {
        double seconds = [self secondsOf:index rows:rows few:few];
        if (index > first && total + seconds > _longest) break;
        total += seconds;
    }
    [_lock unlock];
    return index - first;
}

// The piece's dispatches share the time as they were thought to. A time goes up at once and down slowly: of attention, it
// depends on how much a sequence has behind it.
- (void)noteSeconds:(double)seconds ofRange:(NSRange)range rows:(ob_rows)rows {
    if (_longest <= 0 || seconds <= 0) return;
    double total = 0;
    [_lock lock];
    for (NSUInteger i = range.location; i < NSMaxRange(range); i++) total += [self secondsOf:i rows:rows few:NO];
    for (NSUInteger i = range.location; i < NSMaxRange(range) && total > 0; i++) {
        double share = seconds * [self secondsOf:i rows:rows few:NO] / total;
        double threadgroups = threadgroupsOf(&_dispatches[i], rows);
        double each = threadgroups > 0 ? share / threadgroups : 0, before = _seconds[i];
        _seconds[i] = each >= before ? each : before - (before - each) / 4;
    }
    [_lock unlock];
}

@end
