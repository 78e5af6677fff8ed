// Opens a shared object, afresh where its file has changed since one of that name was opened.
#ifndef OBM_OBJECT_FILE_H
#define OBM_OBJECT_FILE_H

// A handle for dlsym and dlclose; NULL where it cannot be opened, and dlerror says why. From any thread.
void *obm_object_open(const char *path);

#endif
