#include "native.h"

// Memories of contracts, used one after the other. What a call costs the kernel is
// mapping and unmapping its memory, and a fault for each page; so a memory goes back
// to a list when its call ends, and only pages that were used are written over.
//
// A room on the list is all zeros. Which pages are not is asked of the kernel: in a
// private mapping without a file a page that is neither present nor swapped out is
// read as zeros. If the kernel does not say, or there are many, the whole is given
// back to it.

#ifdef __linux__

#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MOST_ROOMS 64          // that are kept
#define SCANNED (8UL << 20)    // bytes of which it is asked which pages are used
#define WRITTEN_OVER 128       // pages at most that are
#define USED (3ULL << 62)      // of an entry of pagemap: present, swapped out

typedef struct room {
  struct room *next;
  uint8_t *base;
  size_t reserved;   // bytes of addresses
  size_t accessible; // bytes from base that can be read and written, and size at least
  size_t touched;    // bytes from base that were accessible since all was given back: none beyond was used
  size_t capacity;   // the most that it may grow to
  size_t size;
  bool spoilt;       // what lies beyond accessible may be accessible too
} room;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static room *kept;
static int rooms_kept;
static int pagemap = -2; // not open yet; -1: there is none
static size_t page;

static void destroy(room *r) {
  if (munmap(r->base, r->reserved) != 0) abort();
  free(r);
}

// overwrite makes a room all zeros page by page, and reports whether it could, with few
// pages left to the room. Those beyond what is accessible are zeros, of calls before.
static bool overwrite(room *r) {
  size_t pages = r->touched / page, used = 0;
  if (pagemap < 0 || r->touched > SCANNED) return false;
  uint64_t entries[SCANNED / 4096];
  ssize_t want = pages * sizeof entries[0];
  if (pread(pagemap, entries, want, (uintptr_t)r->base / page * sizeof entries[0]) != want) return false;
  for (size_t i = 0; i < pages; i++) used += (entries[i] & USED) != 0;
  if (used > WRITTEN_OVER) return false;
  for (size_t i = 0; i < r->accessible / page; i++) {
    if (entries[i] & USED) memset(r->base + i * page, 0, page);
  }
  return true;
}

// clear makes a room all zeros, and reports whether it could.
static bool clear(room *r) {
  if (overwrite(r)) return true;
  if (madvise(r->base, r->touched, MADV_DONTNEED) != 0) return false;
  r->touched = 0;
  return true;
}

static void leave(void *at) {
  room *r = at;
  bool clean = !r->spoilt && clear(r);
  pthread_mutex_lock(&lock);
  bool keep = clean && rooms_kept < MOST_ROOMS;
  if (keep) {
    r->next = kept;
    kept = r;
    rooms_kept++;
  }
  pthread_mutex_unlock(&lock);
  if (!keep) destroy(r);
}

static uint8_t *look(void *at, size_t *size, size_t *capacity) {
  room *r = at;
  *size = r->size;
  *capacity = r->capacity;
  return r->base;
}

// resize has all of a size be accessible and nothing beyond it.
static bool resize(room *r, size_t size) {
  size_t bytes = (size + page - 1) / page * page;
  if (bytes > r->accessible && mprotect(r->base + r->accessible, bytes - r->accessible, PROT_READ | PROT_WRITE) != 0) {
    r->spoilt = true; // a part of it may have become so
    return false;
  }
  if (bytes < r->accessible && mprotect(r->base + bytes, r->accessible - bytes, PROT_NONE) != 0) return false;
  r->accessible = bytes;
  r->size = size;
  if (bytes > r->touched) r->touched = bytes;
  return true;
}

static wasmtime_error_t *grow(void *at, size_t size) {
  room *r = at;
  if (size < r->size || size > r->capacity || !resize(r, size)) return wasmtime_error_new("no memory");
  return NULL;
}

// take returns a room of the list, or NULL.
static room *take(size_t reserved) {
  pthread_mutex_lock(&lock);
  room *r = kept;
  if (r != NULL && r->reserved != reserved) r = NULL;
  if (r != NULL) {
    kept = r->next;
    rooms_kept--;
  }
  pthread_mutex_unlock(&lock);
  return r;
}

static wasmtime_error_t *enter(
    void *env, const wasm_memorytype_t *type, size_t minimum, size_t maximum, size_t reserved, size_t guard,
    wasmtime_linear_memory_t *out) {
  size_t capacity = reserved > minimum ? reserved : minimum, bytes = capacity + guard;
  room *r = take(bytes);
  if (r == NULL) {
    r = calloc(1, sizeof *r);
    if (r == NULL) abort();
    r->reserved = bytes;
    r->base = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (r->base == MAP_FAILED) {
      free(r);
      return wasmtime_error_new("no addresses");
    }
    (void)madvise(r->base, bytes, MADV_NOHUGEPAGE); // a huge page is used as a whole
  }
  r->capacity = capacity;
  if (!resize(r, minimum)) {
    destroy(r);
    return wasmtime_error_new("no memory");
  }
  *out = (wasmtime_linear_memory_t){.env = r, .get_memory = look, .grow_memory = grow, .finalizer = leave};
  return NULL;
}

// proven reports whether a room of which some pages were written is all zeros again.
static bool proven(void) {
  static const size_t size = 64 << 16;
  room r = {.reserved = size};
  r.base = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (r.base == MAP_FAILED) return false;
  bool right = resize(&r, size);
  for (size_t i = 0; right && i < size; i += 13 * page) r.base[i] = 1;
  right = right && overwrite(&r);
  for (size_t i = 0; right && i < size; i++) right = r.base[i] == 0;
  munmap(r.base, size);
  return right;
}

void native_rooms(wasm_config_t *config) {
  pthread_mutex_lock(&lock);
  page = sysconf(_SC_PAGESIZE);
  if (pagemap == -2) pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (pagemap >= 0 && !proven()) pagemap = -1;
  pthread_mutex_unlock(&lock);
  wasmtime_memory_creator_t creator = {.new_memory = enter};
  wasmtime_config_host_memory_creator_set(config, &creator);
}

#else

void native_rooms(wasm_config_t *config) {}

#endif
