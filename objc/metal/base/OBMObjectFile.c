#include "OBMObjectFile.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MOST_SPELLINGS = 256 };

#if defined(__APPLE__)
#define st_mtim st_mtimespec
#endif

// The file that a name stood for when it was last opened.
typedef struct file {
    struct file *next;
    struct stat status;
    unsigned spelling;
    char path[];
} file;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static file *files;

static bool is_same(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static file *find(const char *path) {
    for (file *each = files; each != NULL; each = each->next)
        if (strcmp(each->path, path) == 0) return each;
    file *added = calloc(1, sizeof *added + strlen(path) + 1);
    if (added == NULL) return NULL;
    strcpy(added->path, path);
    added->next = files;
    return files = added;
}

// The loader answers a name that it has seen with the object of that time, without a look at the file. So a file that
// was replaced goes by another spelling of its name, folder/./name, which makes the loader compare the files.
static void *open_spelled(const char *path, unsigned spelling) {
    const char *slash = strrchr(path, '/');
    size_t folder = slash != NULL ? (size_t)(slash + 1 - path) : 0;
    size_t size = strlen(path) + 2 * (size_t)spelling + 1;
    char *spelled = malloc(size);
    if (spelled == NULL) return NULL;
    memcpy(spelled, path, folder);
    for (unsigned i = 0; i < spelling; i++) memcpy(spelled + folder + 2 * (size_t)i, "./", 2);
    strcpy(spelled + folder + 2 * (size_t)spelling, path + folder);
    void *handle = dlopen(spelled, RTLD_NOW | RTLD_LOCAL);
    free(spelled);
    return handle;
}

void *obm_object_open(const char *path) {
    struct stat status;
    if (stat(path, &status) != 0) return dlopen(path, RTLD_NOW | RTLD_LOCAL);  // which says what is wrong
    pthread_mutex_lock(&lock);
    file *known = find(path);
    void *handle = NULL;
    if (known != NULL) {
        bool is_new = known->status.st_ino == 0;
        if (!is_new && !is_same(&known->status, &status)) known->spelling = (known->spelling + 1) % MOST_SPELLINGS;
        known->status = status;
        handle = open_spelled(path, known->spelling);
    }
    pthread_mutex_unlock(&lock);
    return handle;
}
