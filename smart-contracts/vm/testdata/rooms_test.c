// What rooms.c does where the kernel refuses, and what it keeps: built and run by
// TestRooms. Prints what is wrong, and ends with 1 then.
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/mman.h>

// The kernel, which refuses when it is told to. A call of mprotect over several
// mappings has done its first part when it refuses the next.
static int refuse_mprotect, refuse_madvise, unmapped;

static int mprotect_of(void *at, size_t bytes, int how) {
  if (!refuse_mprotect) return mprotect(at, bytes, how);
  if (mprotect(at, bytes / 2, how) != 0) perror("mprotect");
  return -1;
}

static int madvise_of(void *at, size_t bytes, int what) {
  return refuse_madvise && what == MADV_DONTNEED ? -1 : madvise(at, bytes, what);
}

static int munmap_of(void *at, size_t bytes) {
  unmapped++;
  return munmap(at, bytes);
}

#define mprotect mprotect_of
#define madvise madvise_of
#define munmap munmap_of
#include "../rooms.c"

void wasmtime_config_host_memory_creator_set(wasm_config_t *config, wasmtime_memory_creator_t *creator) {}
wasmtime_error_t *wasmtime_error_new(const char *text) { return (wasmtime_error_t *)text; }

#define PAGE (64UL << 10)
#define RESERVED (64UL << 20)

static int wrong;

static void want(bool right, const char *what) {
  if (right) return;
  printf("%s\n", what);
  wrong = 1;
}

static wasmtime_linear_memory_t begin(size_t bytes) {
  wasmtime_linear_memory_t memory = {0};
  want(enter(NULL, NULL, bytes, RESERVED, RESERVED, PAGE, &memory) == NULL, "a room cannot be had");
  return memory;
}

// present is how many pages of a room the kernel has.
static size_t present(room *r) {
  static uint64_t entries[RESERVED / 4096];
  size_t pages = RESERVED / page, count = 0;
  ssize_t bytes = pages * sizeof entries[0];
  want(pread(pagemap, entries, bytes, (uintptr_t)r->base / page * sizeof entries[0]) == bytes, "pagemap cannot be read");
  for (size_t i = 0; i < pages; i++) count += (entries[i] & USED) != 0;
  return count;
}

// Calls of falling sizes, each of which uses as many pages as are written over, leave
// no more to the room than one of them does.
static void falling(void) {
  room *r = NULL;
  for (size_t size = 8UL << 20; size >= 1UL << 20; size -= 1UL << 20) {
    wasmtime_linear_memory_t memory = begin(size);
    want(r == NULL || r == memory.env, "a room is not used again");
    r = memory.env;
    for (size_t i = 0; i < WRITTEN_OVER; i++) r->base[size - 1 - i * page] = 1;
    leave(r);
    want(pagemap < 0 || present(r) <= WRITTEN_OVER, "a room on the list has more pages than may be written over");
  }
  r = begin(8UL << 20).env;
  for (size_t i = 0; i < 8UL << 20; i++) {
    if (r->base[i] != 0) {
      want(false, "a byte of a call before is left");
      break;
    }
  }
  leave(r);
}

// A room that could not grow is not used again: pages beyond its size may be used.
static void growing(void) {
  room *r = begin(PAGE).env;
  int before = unmapped;
  refuse_mprotect = 1;
  want(grow(r, 64 * PAGE) != NULL, "a room has grown that could not");
  refuse_mprotect = 0;
  leave(r);
  want(unmapped == before + 1 && kept == NULL, "a room that failed to grow is kept");
}

// A room that cannot be given back to the kernel is not used again, and the process goes on.
static void clearing(void) {
  room *r = begin(16UL << 20).env; // more than is looked at
  int before = unmapped;
  r->base[0] = 1;
  refuse_madvise = 1;
  leave(r);
  refuse_madvise = 0;
  want(unmapped == before + 1 && kept == NULL, "a room that is not all zeros is kept");
}

int main(void) {
  native_rooms(NULL);
  unmapped = 0;
  falling();
  growing();
  clearing();
  return wrong;
}
