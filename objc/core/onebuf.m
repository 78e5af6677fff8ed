#import "onebuf.h"
#import "OBArchive.h"
#import "OBChain.h"
#import "OBDevice.h"
#import "OBError.h"
#import "OBKernel.h"
#import "OBLibrary.h"
#import "OBResidency.h"
#import "OBRun.h"
#import "OBTransfers.h"

// Each entry runs in a pool of its own and stops exceptions: a caller in C has neither. The pool is made where an
// exception is caught, because making it may fail too.
#define OB_BEGIN                   \
    NSAutoreleasePool *pool = nil; \
    @try {                         \
        pool = newPool();
#define OB_END(error)                      \
    }                                      \
    @catch (NSException * exception) {     \
        reportException(exception, error); \
    }                                      \
    drain(pool);

static void copyText(char *target, size_t length, NSString *text) {
    const char *utf8 = [text UTF8String];
    snprintf(target, length, "%s", utf8 != NULL ? utf8 : "");
}

static NSAutoreleasePool *newPool(void) {
    NSAutoreleasePool *pool = [[NSAutoreleasePool alloc] init];
    if (pool == nil) [NSException raise:NSMallocException format:@"no memory left"];
    return pool;
}

// By now the caller has its result. What goes wrong here harms no later call.
static void drain(NSAutoreleasePool *pool) {
    @try {
        [pool release];
    } @catch (NSException *exception) {
        fprintf(stderr, "onebuf: an object could not be given back: %s\n", [[exception reason] UTF8String]);
    }
}

static void reportException(NSException *exception, ob_error *error) {
    BOOL memory = [[exception name] isEqualToString:NSMallocException];
    error->code = memory ? OB_MEMORY : OB_ARGUMENT;
    copyText(error->message, sizeof error->message, memory ? @"no memory left" : [exception reason]);
}

// Where even the error found no memory, there is no cause.
static void report(NSError *cause, ob_error *error) {
    BOOL own = [[cause domain] isEqualToString:OBErrorDomain];
    error->code = cause == nil ? OB_MEMORY : own ? (int)[cause code] : OB_DEVICE;
    copyText(error->message, sizeof error->message, cause == nil ? @"no memory left" : [cause localizedDescription]);
}

static NSString *text(const char *utf8) {
    NSString *result = utf8 != NULL ? [NSString stringWithUTF8String:utf8] : nil;
    return result != nil ? result : @"";
}

// A +1 handle for an autoreleased object, or NULL with the error filled. The cause comes by reference: the call that
// sets it is an argument of this one, and arguments are evaluated in any order.
static void *handle(id object, NSError **cause, ob_error *error) {
    if (object == nil) report(*cause, error);
    return (void *)[object retain];
}

void ob_release(void *object) {
    ob_error error = {0, ""};
    OB_BEGIN
    [(id)object release];
    OB_END(&error)
    if (error.code != 0) fprintf(stderr, "onebuf: an object could not be given back: %s\n", error.message);
}

ob_device *ob_device_open(const char *name, const ob_device_options *options, ob_error *error) {
    ob_device *result = NULL;
    OB_BEGIN
    NSError *cause = nil;
    result = handle([OBDevice deviceNamed:text(name) options:options error:&cause], &cause, error);
    OB_END(error)
    return result;
}

int ob_device_describe(ob_device *handle, ob_device_info *info, ob_error *error) {
    int status = -1;
    memset(info, 0, sizeof *info);
    OB_BEGIN
    OBDevice *device = (OBDevice *)handle;
    copyText(info->name, sizeof info->name, [device name]);
    copyText(info->hardware, sizeof info->hardware, [device hardwareName]);
    copyText(info->isa, sizeof info->isa, [device instructionSet]);
    info->threads = (uint32_t)[device threads];
    info->max_buffer = [[device device] maxBufferLength];
    info->allocated = [[device device] currentAllocatedSize];
    info->command_buffers = [device committedCommandBuffers];
    info->schedules = (uint32_t)[device schedules];
    info->unified = [device unified];
    info->memory = [device memorySize];
    info->cores = (uint32_t)[device coreCount];
    info->transfers = [[device transfers] committedCommandBuffers];
    info->working_set = [device workingSet];
    info->resident = [[device residency] bytes];
    info->archives = [device hasArchives];
    status = 0;
    OB_END(error)
    return status;
}

int ob_device_count(size_t *count, ob_error *error) {
    int status = -1;
    *count = 0;
    OB_BEGIN
    *count = [[OBDevice deviceNames] count];
    status = 0;
    OB_END(error)
    return status;
}

int ob_device_name(size_t index, char *name, size_t length, ob_error *error) {
    int status = -1;
    *name = '\0';
    OB_BEGIN
    copyText(name, length, [[OBDevice deviceNames] objectAtIndex:index]);
    status = 0;
    OB_END(error)
    return status;
}

int ob_device_problem(const char *name, char *problem, size_t length, ob_error *error) {
    int status = -1;
    *problem = '\0';
    OB_BEGIN
    copyText(problem, length, OBMProblemOfDevice(text(name)));
    status = 0;
    OB_END(error)
    return status;
}

ob_library *ob_library_open(ob_device *device, const char *path, ob_error *error) {
    ob_library *result = NULL;
    OB_BEGIN
    NSError *cause = nil;
    result = handle([(OBDevice *)device libraryAtPath:text(path) error:&cause], &cause, error);
    OB_END(error)
    return result;
}

ob_library *ob_library_compile(ob_device *device, const char *source, ob_error *error) {
    ob_library *result = NULL;
    OB_BEGIN
    NSError *cause = nil;
    result = handle([(OBDevice *)device libraryWithSource:text(source) error:&cause], &cause, error);
    OB_END(error)
    return result;
}

int ob_library_use_archive(ob_device *device, ob_library *library, const char *path, ob_error *error) {
    int status = -1;
    OB_BEGIN
    [(OBLibrary *)library setArchive:[OBArchive archiveWithDevice:[(OBDevice *)device device] path:text(path)]];
    status = 0;
    OB_END(error)
    return status;
}

int ob_library_save_archive(ob_library *library, ob_error *error) {
    int status = -1;
    OB_BEGIN
    NSError *cause = nil;
    OBArchive *archive = [(OBLibrary *)library archive];
    if (archive == nil || [archive save:&cause]) status = 0;
    else report(cause, error);
    OB_END(error)
    return status;
}

int ob_library_archive_counts(ob_library *library, ob_archive_counts *counts, ob_error *error) {
    int status = -1;
    memset(counts, 0, sizeof *counts);
    OB_BEGIN
    OBArchive *archive = [(OBLibrary *)library archive];
    counts->found = [archive found];
    counts->compiled = [archive compiled];
    status = 0;
    OB_END(error)
    return status;
}

int ob_library_count(ob_library *library, size_t *count, ob_error *error) {
    int status = -1;
    *count = 0;
    OB_BEGIN
    *count = [[(OBLibrary *)library kernelNames] count];
    status = 0;
    OB_END(error)
    return status;
}

int ob_library_name(ob_library *library, size_t index, char *name, size_t length, ob_error *error) {
    int status = -1;
    *name = '\0';
    OB_BEGIN
    copyText(name, length, [[(OBLibrary *)library kernelNames] objectAtIndex:index]);
    status = 0;
    OB_END(error)
    return status;
}

ob_kernel *ob_kernel_find(ob_library *library, const char *name, ob_error *error) {
    ob_kernel *result = NULL;
    OB_BEGIN
    NSError *cause = nil;
    result = handle([(OBLibrary *)library kernelNamed:text(name) error:&cause], &cause, error);
    OB_END(error)
    return result;
}

int ob_kernel_constant_count(ob_library *library, const char *name, size_t *count, ob_error *error) {
    int status = -1;
    *count = 0;
    OB_BEGIN
    NSError *cause = nil;
    NSArray *constants = [(OBLibrary *)library constantsOfKernel:text(name) error:&cause];
    if (constants == nil) report(cause, error);
    else *count = [constants count];
    status = constants == nil ? -1 : 0;
    OB_END(error)
    return status;
}

int ob_kernel_constant(ob_library *library, const char *name, size_t position, ob_constant *out, ob_error *error) {
    int status = -1;
    memset(out, 0, sizeof *out);
    OB_BEGIN
    NSError *cause = nil;
    NSArray *constants = [(OBLibrary *)library constantsOfKernel:text(name) error:&cause];
    MTLFunctionConstant *constant = [constants objectAtIndex:position];
    if (constant == nil) report(cause, error);
    else {
        copyText(out->name, sizeof out->name, [constant name]);
        out->index = (uint32_t)[constant index];
        out->type = (uint32_t)[constant type];
        out->required = [constant required];
        status = 0;
    }
    OB_END(error)
    return status;
}

ob_kernel *ob_kernel_specialise(ob_library *library, const char *name, const ob_constant_value *values, size_t count,
                                ob_error *error) {
    ob_kernel *result = NULL;
    OB_BEGIN
    NSError *cause = nil;
    MTLFunctionConstantValues *given = [(OBLibrary *)library constantValues];
    for (size_t i = 0; i < count; i++)
        [given setConstantValue:values[i].value type:values[i].type atIndex:values[i].index];
    result = handle([(OBLibrary *)library kernelNamed:text(name) values:given error:&cause], &cause, error);
    OB_END(error)
    return result;
}

size_t ob_kernel_arguments(ob_kernel *kernel) { return [(OBKernel *)kernel argumentCount]; }

int ob_kernel_argument(ob_kernel *handle, size_t index, ob_argument *out, ob_error *error) {
    int status = -1;
    memset(out, 0, sizeof *out);
    OB_BEGIN
    OBKernel *kernel = (OBKernel *)handle;
    const OBArgument *argument = [kernel argumentAtIndex:index];
    snprintf(out->name, sizeof out->name, "%s", argument->name);
    out->index = (uint32_t)argument->index;
    out->threadgroup = argument->threadgroup;
    out->writes = argument->writes;
    out->size = (uint32_t)argument->size;
    out->alignment = (uint32_t)argument->alignment;
    out->members = (uint32_t)[kernel memberCountOfArgument:index];
    status = 0;
    OB_END(error)
    return status;
}

int ob_kernel_member(ob_kernel *kernel, size_t argument, size_t index, ob_member *out, ob_error *error) {
    int status = -1;
    memset(out, 0, sizeof *out);
    OB_BEGIN
    OBMember member = [(OBKernel *)kernel member:index ofArgument:argument];
    copyText(out->name, sizeof out->name, member.name);
    out->offset = (uint32_t)member.offset;
    out->type = (uint32_t)member.type;
    out->count = (uint32_t)member.count;
    out->size = (uint32_t)member.size;
    out->writes = member.writes;
    status = 0;
    OB_END(error)
    return status;
}

uint32_t ob_kernel_threads(ob_kernel *kernel) { return (uint32_t)[(OBKernel *)kernel threadsPerThreadgroup]; }

uint32_t ob_kernel_width(ob_kernel *kernel) { return (uint32_t)[[(OBKernel *)kernel state] threadExecutionWidth]; }

int ob_kernel_native(ob_kernel *kernel) { return [(OBKernel *)kernel isNative]; }

ob_buffer *ob_buffer_new(ob_device *device, uint64_t length, int storage, ob_error *error) {
    ob_buffer *result = NULL;
    OB_BEGIN
    NSError *cause = nil;
    id<MTLBuffer> buffer =
        [(OBDevice *)device newBufferWithLength:(NSUInteger)length
                                        storage:storage == OB_PRIVATE ? MTLStorageModePrivate : MTLStorageModeShared
                                          error:&cause];
    result = handle(buffer, &cause, error);
    [buffer release];
    OB_END(error)
    return result;
}

ob_buffer *ob_buffer_wrap(ob_device *device, void *memory, uint64_t length, ob_error *error) {
    ob_buffer *result = NULL;
    OB_BEGIN
    NSError *cause = nil;
    id<MTLBuffer> buffer = [(OBDevice *)device newBufferWithMemory:memory length:(NSUInteger)length error:&cause];
    result = handle(buffer, &cause, error);
    [buffer release];
    OB_END(error)
    return result;
}

void *ob_buffer_contents(ob_buffer *buffer) { return [(id<MTLBuffer>)buffer contents]; }

uint64_t ob_buffer_length(ob_buffer *buffer) { return [(id<MTLBuffer>)buffer length]; }

uint64_t ob_buffer_address(ob_buffer *buffer) { return [(id<MTLBuffer>)buffer gpuAddress]; }

#define OB_TRANSFER(name, method)                                                                   \
    int name(ob_device *device, const ob_transfer *transfers, size_t count, ob_error *error) {      \
        int status = -1;                                                                            \
        OB_BEGIN                                                                                    \
        NSError *cause = nil;                                                                       \
        if ([[(OBDevice *)device transfers] method:transfers count:count error:&cause]) status = 0; \
        else report(cause, error);                                                                  \
        OB_END(error)                                                                               \
        return status;                                                                              \
    }

OB_TRANSFER(ob_buffer_write, write)
OB_TRANSFER(ob_buffer_read, read)
OB_TRANSFER(ob_buffer_upload, upload)

ob_chain *ob_chain_new(ob_device *device, const ob_dispatch *dispatches, size_t count, const char *label,
                       ob_error *error) {
    ob_chain *result = NULL;
    OB_BEGIN
    NSError *cause = nil;
    result = handle([OBChain chainWithDevice:(OBDevice *)device
                                  dispatches:dispatches
                                       count:count
                                       label:text(label)
                                       error:&cause],
                    &cause, error);
    OB_END(error)
    return result;
}

size_t ob_chain_count(ob_chain *chain) { return [(OBChain *)chain count]; }

int64_t ob_chain_conflict(ob_chain *chain, size_t index) { return [(OBChain *)chain conflictOfDispatch:index]; }

ob_run *ob_chain_commit(ob_chain *chain, ob_rows rows, ob_error *error) {
    ob_run *result = NULL;
    OB_BEGIN
    NSError *cause = nil;
    result = handle([(OBChain *)chain commitRows:rows error:&cause], &cause, error);
    OB_END(error)
    return result;
}

int ob_chain_trace(ob_chain *chain, ob_rows rows, double *starts, double *ends, ob_error *error) {
    int status = -1;
    OB_BEGIN
    NSError *cause = nil;
    if ([(OBChain *)chain traceRows:rows starts:starts ends:ends error:&cause]) {
        status = 0;
    } else {
        report(cause, error);
    }
    OB_END(error)
    return status;
}

int ob_run_wait(ob_run *run, ob_error *error) {
    int status = -1;
    OB_BEGIN
    NSError *cause = nil;
    if ([(OBRun *)run wait:&cause]) {
        status = 0;
    } else {
        report(cause, error);
    }
    OB_END(error)
    return status;
}

int ob_run_findings(ob_run *run, size_t *count, ob_error *error) {
    int status = -1;
    *count = 0;
    OB_BEGIN
    *count = [[(OBRun *)run findings] count];
    status = 0;
    OB_END(error)
    return status;
}

int ob_run_finding(ob_run *run, size_t index, const char *name, char *target, size_t length, ob_error *error) {
    int status = -1;
    *target = '\0';
    OB_BEGIN
    NSString *value = [[[(OBRun *)run findings] objectAtIndex:index] objectForKey:text(name)];
    copyText(target, length, value);
    status = value == nil;
    OB_END(error)
    return status;
}

int ob_run_done(ob_run *run) { return [(OBRun *)run done]; }

void ob_run_describe(ob_run *run, ob_run_times *times) {
    times->encode_seconds = [(OBRun *)run encodeSeconds];
    times->device_start = [(OBRun *)run deviceStart];
    times->device_end = [(OBRun *)run deviceEnd];
}
