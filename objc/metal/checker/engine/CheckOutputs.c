#include "CheckOutputs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "CheckState.h"

enum { CELL = 4 };

bool check_is_output(const check_binding *binding) { return binding->writes && binding->memory != NULL; }

static size_t first_cell(const check_binding *binding) { return binding->offset / CELL; }

static size_t cell_count(const check_binding *binding) {
    return (binding->offset + binding->length + CELL - 1) / CELL - first_cell(binding);
}

bool check_outputs_make(const check_dispatch *dispatch, check_outputs *outputs) {
    size_t bytes = 0, cells = 0;
    for (uint32_t i = 0; i < dispatch->binding_count; i++) {
        const check_binding *binding = &dispatch->bindings[i];
        if (!check_is_output(binding)) continue;
        bytes += binding->length;
        cells += cell_count(binding);
    }
    outputs->bytes = malloc(bytes + 1);
    outputs->written = malloc(cells + 1);
    return outputs->bytes != NULL && outputs->written != NULL;
}

void check_outputs_free(check_outputs *outputs) {
    free(outputs->bytes);
    free(outputs->written);
}

void check_outputs_save(const check_dispatch *dispatch, check_outputs *outputs) {
    char *bytes = outputs->bytes;
    uint8_t *written = outputs->written;
    for (uint32_t i = 0; i < dispatch->binding_count; i++) {
        const check_binding *binding = &dispatch->bindings[i];
        if (!check_is_output(binding)) continue;
        memcpy(bytes, check_memory_view(binding->memory) + binding->offset, binding->length);
        memcpy(written, binding->memory->written + first_cell(binding), cell_count(binding));
        bytes += binding->length;
        written += cell_count(binding);
    }
}

void check_outputs_restore_bytes(const check_dispatch *dispatch, const check_outputs *outputs) {
    const char *bytes = outputs->bytes;
    for (uint32_t i = 0; i < dispatch->binding_count; i++) {
        const check_binding *binding = &dispatch->bindings[i];
        if (!check_is_output(binding)) continue;
        memcpy(check_memory_view(binding->memory) + binding->offset, bytes, binding->length);
        bytes += binding->length;
    }
}

void check_outputs_restore(const check_dispatch *dispatch, const check_outputs *outputs) {
    const uint8_t *written = outputs->written;
    check_outputs_restore_bytes(dispatch, outputs);
    for (uint32_t i = 0; i < dispatch->binding_count; i++) {
        const check_binding *binding = &dispatch->bindings[i];
        if (!check_is_output(binding)) continue;
        memcpy(binding->memory->written + first_cell(binding), written, cell_count(binding));
        written += cell_count(binding);
    }
}

bool check_outputs_are(const check_dispatch *dispatch, const check_outputs *outputs) {
    const char *bytes = outputs->bytes;
    for (uint32_t i = 0; i < dispatch->binding_count; i++) {
        const check_binding *binding = &dispatch->bindings[i];
        if (!check_is_output(binding)) continue;
        if (memcmp(bytes, check_memory_view(binding->memory) + binding->offset, binding->length) != 0) return false;
        bytes += binding->length;
    }
    return true;
}

void check_report_difference(check_state *state, const check_outputs *first, uint32_t order) {
    const check_dispatch *dispatch = state->dispatch;
    size_t at = 0;
    for (uint32_t i = 0; i < dispatch->binding_count; i++) {
        const check_binding *binding = &dispatch->bindings[i];
        if (!check_is_output(binding)) continue;
        const char *view = check_memory_view(binding->memory) + binding->offset;
        size_t k = 0;
        while (k < binding->length && first->bytes[at + k] == view[k]) k++;
        if (k < binding->length) {
            const check_record *record = &binding->memory->cells[(binding->offset + k) / 4].writes[0];
            if (record->segment == 0 && check_findings_any(&state->findings, dispatch->owner))
                return;  // a race is what explains it
            check_finding finding = check_finding_here(state, CHECK_ORDER_DEPENDENT);
            check_side_of_record(&finding.here, state, record);
            finding.here.write = true;
            check_name_finding(&finding, binding);
            finding.offset = k;
            finding.length = binding->length;
            snprintf(finding.text, sizeof finding.text, "order %u of its threads gives another result than the first",
                     order);
            check_findings_add(&state->findings, &finding);
            return;
        }
        at += binding->length;
    }
}
