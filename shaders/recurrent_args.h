// temporary
#ifndef OB_RECURRENT_ARGS_H
#define OB_RECURRENT_ARGS_H
#include "args.h"
// B and C of group h / (heads / groups) belong to head h. dt of head h is element dt_first + h of a row, and is limited to
// least … most.
struct ScanArgs {
    uint32_t rows, heads, groups, head_dim, state_dim;
    uint32_t dt_row, dt_first;
    float least, most;
};

// Number d of head h of the gates is element first + h / group · step + h % group · dim + d of a row of the gates.
struct NormGateArgs {
    uint32_t rows, heads, dim;
    uint32_t gate_row, gate_first, gate_group, gate_step;
    uint32_t weight_step;   // elements of the weight from one head to the next; 0: one for all heads
    uint32_t gates_inputs;  // 1: inputs are gated, and then normed
    float eps;
};

// Number d of head h is element first + h · step + d of a row, of x and of the gates.
struct GateArgs {
    uint32_t rows, heads, dim;
    uint32_t x_row, x_first, x_step;
    uint32_t gate_row, gate_first, gate_step;
    uint32_t sigmoid;  // 1: the gate is σ(number); 0: the number itself
};
#endif
