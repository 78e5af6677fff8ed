#import "OBFText.h"

#import <Foundation/NSException.h>

#import "OBFMemory.h"

void obf_append(obf_text *text, const char *bytes, size_t count) {
    if (count > OBF_LONGEST - 1 - text->size) obf_raise_no_memory();
    if (text->size + count + 1 > text->room || text->bytes == NULL) {
        size_t room = obf_room(text->room, text->size + count + 1);
        text->bytes = obf_resized(text->bytes, room, 1);
        text->room = room;
    }
    if (count > 0) memcpy(text->bytes + text->size, bytes, count);
    text->size += count;
    text->bytes[text->size] = '\0';
}

static void appendPoint(obf_text *text, uint32_t point) {
    char out[4];
    size_t count = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (size_t i = count; i-- > 1; point >>= 6) out[i] = (char)(0x80 | (point & 0x3F));
    static const uint8_t leads[] = {0, 0, 0xC0, 0xE0, 0xF0};
    out[0] = (char)(leads[count] | point);
    obf_append(text, out, count);
}

void obf_append_latin1(obf_text *text, const uint8_t *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) appendPoint(text, bytes[i]);
}

// How many bytes a character takes that starts with this one.
static size_t lengthOf(uint8_t lead) { return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4; }

static uint32_t pointAt(const char *bytes) {
    const uint8_t *at = (const uint8_t *)bytes;
    size_t count = lengthOf(*at);
    uint32_t point = count == 1 ? *at : *at & (0x7Fu >> count);
    for (size_t i = 1; i < count; i++) point = point << 6 | (at[i] & 0x3F);
    return point;
}

static bool isFirstHalf(uint32_t point) { return point >= 0xD800 && point < 0xDC00; }
static bool isSecondHalf(uint32_t point) { return point >= 0xDC00 && point < 0xE000; }

void obf_append_unit(obf_text *text, unichar unit) {
    if (isSecondHalf(unit) && text->size >= 3) {
        uint32_t before = pointAt(text->bytes + text->size - 3);
        if (isFirstHalf(before)) {
            text->size -= 3;
            appendPoint(text, 0x10000 + ((before - 0xD800) << 10) + (unit - 0xDC00));
            return;
        }
    }
    appendPoint(text, unit);
}

bool obf_is_utf8(const char *bytes, size_t size) {
    const uint8_t *at = (const uint8_t *)bytes, *end = at + size;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    while (at < end) {
        if (*at < 0x80) {
            at++;
            continue;
        }
        size_t count = lengthOf(*at);
        if (*at < 0xC2 || *at > 0xF4 || (size_t)(end - at) < count) return false;
        for (size_t i = 1; i < count; i++)
            if ((at[i] & 0xC0) != 0x80) return false;
        uint32_t point = pointAt((const char *)at);
        if (point < least[count] || point > 0x10FFFF || isFirstHalf(point) || isSecondHalf(point)) return false;
        at += count;
    }
    return true;
}

size_t obf_units(const char *bytes, size_t size) {
    size_t units = 0;
    for (size_t i = 0; i < size; i++) {
        uint8_t byte = (uint8_t)bytes[i];
        units += (byte & 0xC0) != 0x80 ? byte >= 0xF0 ? 2 : 1 : 0;
    }
    return units;
}

size_t obf_place(const char *bytes, size_t size, size_t unit) {
    size_t at = 0;
    for (; at < size && unit > 0; at += lengthOf((uint8_t)bytes[at])) {
        size_t units = (uint8_t)bytes[at] >= 0xF0 ? 2 : 1;
        if (units > unit) break;  // the middle of a pair belongs to its start
        unit -= units;
    }
    return at == size && unit > 0 ? size + 1 : at;
}

unichar obf_unit_at(const char *bytes, size_t size, size_t unit) {
    size_t at = obf_place(bytes, size, unit);
    uint32_t point = pointAt(bytes + at);
    if (point < 0x10000) return (unichar)point;
    bool second = unit > 0 && obf_place(bytes, size, unit - 1) == at;
    return (unichar)(second ? 0xDC00 + (point & 0x3FF) : 0xD800 + ((point - 0x10000) >> 10));
}

// One conversion of a format, with its own arguments only.
static void appendWith(obf_text *text, const char *conversion, ...) {
    va_list arguments, again;
    va_start(arguments, conversion);
    va_copy(again, arguments);
    char small[128];
    int count = vsnprintf(small, sizeof small, conversion, arguments);
    va_end(arguments);
    if (count >= 0 && (size_t)count < sizeof small) {
        obf_append(text, small, (size_t)count);
    } else if (count >= 0) {
        char *large = NULL;
        @try {
            large = obf_zeroed((size_t)count + 1, 1);
            vsnprintf(large, (size_t)count + 1, conversion, again);
            obf_append(text, large, (size_t)count);
        } @finally {
            free(large);
        }
    }
    va_end(again);
}

enum size { PLAIN, LONG, LONGER, OF_SIZE, OF_PLACE };

// The type of an argument is read off its conversion, as in printf.
void obf_append_format(obf_text *text, const char *format, va_list arguments) {
    obf_append(text, "", 0);
    for (const char *at = format; *at != '\0';) {
        size_t plain = strcspn(at, "%");
        obf_append(text, at, plain);
        at += plain;
        if (*at == '\0') return;
        char spec[64] = "%";
        size_t used = 1;
        enum size size = PLAIN;
        for (at++; *at != '\0' && used + 24 < sizeof spec; at++) {
            if (*at == '*') {
                used += (size_t)snprintf(spec + used, sizeof spec - used, "%d", va_arg(arguments, int));
                continue;
            }
            if (strchr("-+ #0123456789.hlqjzt", *at) == NULL) break;
            if (*at == 'l') size = size == LONG ? LONGER : LONG;
            if (*at == 'q' || *at == 'j') size = LONGER;
            if (*at == 'z') size = OF_SIZE;
            if (*at == 't') size = OF_PLACE;
            spec[used++] = *at;
        }
        char kind = *at == '\0' ? '\0' : *at++;
        spec[used] = kind;
        spec[used + 1] = '\0';
        switch (kind) {
        case '%':
            obf_append(text, "%", 1);
            break;
        case '@': {
            id object = va_arg(arguments, id);
            const char *said = object == nil ? "(null)" : [[object description] UTF8String];
            spec[used] = 's';
            appendWith(text, spec, said);
            break;
        }
        case 'C':
            obf_append_unit(text, (unichar)va_arg(arguments, int));
            break;
        case 'c':
            appendWith(text, spec, va_arg(arguments, int));
            break;
        case 's':
            appendWith(text, spec, va_arg(arguments, const char *));
            break;
        case 'p':
            appendWith(text, spec, va_arg(arguments, void *));
            break;
        case 'e':
        case 'E':
        case 'f':
        case 'F':
        case 'g':
        case 'G':
        case 'a':
        case 'A':
            appendWith(text, spec, va_arg(arguments, double));
            break;
        case 'd':
        case 'i':
        case 'u':
        case 'x':
        case 'X':
        case 'o':
            if (size == LONG) appendWith(text, spec, va_arg(arguments, long));
            else if (size == LONGER) appendWith(text, spec, va_arg(arguments, long long));
            else if (size == OF_SIZE) appendWith(text, spec, va_arg(arguments, size_t));
            else if (size == OF_PLACE) appendWith(text, spec, va_arg(arguments, ptrdiff_t));
            else appendWith(text, spec, va_arg(arguments, int));
            break;
        default:
            [NSException raise:NSInvalidArgumentException
                        format:@"a format has a conversion that is not known: %s", format];
        }
    }
}
