#include "OBMLimits.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static const char *const known[] = {"macOS", "maxBufferLength", "recommendedMaxWorkingSetSize", "watchdogThreadgroups"};

static bool is_known(const char *name, size_t length) {
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (length == strlen(known[i]) && strncmp(name, known[i], length) == 0) return true;
    }
    return false;
}

uint64_t obm_limit(const char *name, uint64_t own) {
    const char *text = getenv("OB_LIMITS");
    for (size_t length; text != NULL && *text != '\0'; text += length) {
        length = strspn(text, " ");
        if (length > 0) continue;
        size_t named = strcspn(text, "= ");
        if (!is_known(text, named) || text[named] != '=' || !isdigit((unsigned char)text[named + 1])) return 0;
        char *end;
        errno = 0;
        unsigned long long value = strtoull(text + named + 1, &end, 10);
        if (errno != 0 || value == 0 || (*end != '\0' && *end != ' ')) return 0;
        if (named == strlen(name) && strncmp(text, name, named) == 0) own = value;
        length = (size_t)(end - text);
    }
    return own;
}
