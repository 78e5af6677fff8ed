// A compiled shader library: a folder NAME.metallib with one shared object for each device or instruction set.
//
// It is opened by its device and never changes afterwards, so any thread may use it. Functions keep it loaded.
#import "OBMObject.h"
#import "metal/abi/metallib.h"
#import "OBMMetal.h"

@class OBMDevice;

@interface OBMLibrary : OBMObject <MTLLibrary> {
    OBMDevice *_device;
    void *_handle;  // of dlopen
    const metallib *_library;
    const metallib_slots *const *_slots;  // of functions that have argument buffers; NULL: none has
    NSString *_object, *_identity;        // the path of what is open, and its digest
}

// Opens the first of the device's object names that the folder has. nil and an error if the folder is missing, has
// none of them, or was made for another version.
- (id)initWithDevice:(OBMDevice *)device path:(NSString *)path error:(NSError **)error;

// Compiles Metal source with the command in OB_METALC, or takes what an earlier run compiled.
- (id)initWithDevice:(OBMDevice *)device
              source:(NSString *)source
             options:(MTLCompileOptions *)options
               error:(NSError **)error;

// The digest of the object that is open, as text.
- (NSString *)identity;

// NULL: it has no argument buffers.
- (const metallib_slots *)slotsOfFunction:(const metallib_function *)function;

// A device may do these in its own way, in a class of its own. The first says whether the object itself has the code of
// its functions. The second is called once, when the object is open and its tables are found right; NO when there is no
// memory left. The third is called before a pipeline state is made of a function, on any thread: it gives what the
// executor runs for a function with these values of its constants (NULL: none has one), which lives as long as the
// library; NULL and an error when the code cannot be had.
- (BOOL)hasEntries;
- (BOOL)openedFolder:(NSString *)path;
- (const void *)codeOfFunction:(const metallib_function *)function
                        values:(const void *const *)values
                         error:(NSError **)error;

@end
