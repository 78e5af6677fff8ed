#import "metal/devices.h"

void OBMAddGPUs(NSMutableArray *devices) { (void)devices; }

NSString *OBMProblemOfGPU(NSString *kind) {
    return [kind isEqualToString:@"metal"] ? @"Metal shows no GPU to this program" : @"NVIDIA's GPUs are not on macOS";
}
