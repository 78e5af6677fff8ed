// UTF-8 as bytes, and the formats of strings. Plain C but for the objects that %@ names.
#ifndef OBF_TEXT_H
#define OBF_TEXT_H

#import <Foundation/NSString.h>

// Bytes that grow; `bytes` is the caller's to free.
typedef struct {
    char *bytes;
    size_t size, room;
} obf_text;

// With a zero behind the last. They raise where there is no memory or a string would be longer than OBF_LONGEST.
void obf_append(obf_text *text, const char *bytes, size_t count);
void obf_append_latin1(obf_text *text, const uint8_t *bytes, size_t count);
void obf_append_unit(obf_text *text, unichar unit);  // the second half of a pair joins the first
void obf_append_format(obf_text *text, const char *format, va_list arguments);

bool obf_is_utf8(const char *bytes, size_t size);
size_t obf_units(const char *bytes, size_t size);                  // of UTF-16
size_t obf_place(const char *bytes, size_t size, size_t unit);     // where a unit starts; size + 1 beyond the end
unichar obf_unit_at(const char *bytes, size_t size, size_t unit);  // which is there

#endif
