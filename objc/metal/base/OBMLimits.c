#include "OBMLimits.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

uint64_t obm_limit(const char *name, uint64_t own) {
    const char *text = getenv("OB_LIMITS");
    for (size_t length; text != NULL && *text != '\0'; text += length) {
        length = strspn(text, " ");
        if (length > 0) continue;
        size_t named = strcspn(text, "= ");
        if (named == 0 || text[named] != '=' || !isdigit((unsigned char)text[named + 1])) return 0;
        char *end;
        errno = 0;
        unsigned long long value = strtoull(text + named + 1, &end, 10);
        if (errno != 0 || value == 0 || (*end != '\0' && *end != ' ')) return 0;
        if (named == strlen(name) && strncmp(text, name, named) == 0) own = value;
        length = (size_t)(end - text);
    }
    return own;
}
