// All native kernels of one instruction set.
#include "vec.h"

namespace OB_NAMESPACE {

extern const cpu_native_table linear_table, experts_table, experts_grouped_table, attention_table;

static const cpu_native_table *const tables[] = {&linear_table, &experts_table, &experts_grouped_table,
                                                 &attention_table};

}  // namespace OB_NAMESPACE

const cpu_native_library ob_native = {CPU_NATIVE_ABI, sizeof OB_NAMESPACE::tables / sizeof OB_NAMESPACE::tables[0],
                                      OB_NAMESPACE::tables};
