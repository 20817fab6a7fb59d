#define _GNU_SOURCE
#include "native.h"

#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <pthread.h>
#include <sys/resource.h>
#endif

#include "_cgo_export.h"

_Static_assert(sizeof(wasmtime_func_t) == FUNC_BYTES, "func");
_Static_assert(sizeof(wasmtime_instance_t) == INSTANCE_BYTES, "instance");
_Static_assert(sizeof(wasmtime_memory_t) == MEMORY_BYTES, "memory");
_Static_assert(sizeof(wasmtime_global_t) == GLOBAL_BYTES, "global");
_Static_assert(sizeof(wasmtime_extern_t) == EXTERN_BYTES, "extern");
_Static_assert(sizeof(wasmtime_val_t) == VAL_BYTES, "val");
_Static_assert(sizeof(wasmtime_val_raw_t) == RAW_BYTES, "raw");
_Static_assert(sizeof(wasm_byte_vec_t) == VECTOR_BYTES, "bytes");
_Static_assert(sizeof(wasm_valtype_vec_t) == VECTOR_BYTES, "types");
_Static_assert(sizeof(wasmtime_linear_memory_t) == LINEAR_BYTES, "memory");
_Static_assert(sizeof(wasmtime_memory_creator_t) == CREATOR_BYTES, "creator");
_Static_assert(offsetof(wasmtime_extern_t, of) == UNION_OFFSET, "extern");
_Static_assert(offsetof(wasmtime_val_t, of) == UNION_OFFSET, "val");

// Go gives a thread what pthread_attr_init says: with glibc the soft limit at the start of
// the process, or 2 MiB if there is none. Elsewhere it has another way, and takes more.
uint64_t native_thread_stack(void) {
  uint64_t bytes = UINT64_MAX;
#ifdef __linux__
  struct rlimit first;
  pthread_attr_t others;
  size_t size;
  if (getrlimit(RLIMIT_STACK, &first) != 0 || pthread_attr_init(&others) != 0) return 0;
  if (pthread_attr_getstacksize(&others, &size) != 0) size = 0;
  pthread_attr_destroy(&others);
  bytes = first.rlim_cur < size ? first.rlim_cur : size;
#endif
  return bytes;
}

// text copies what the engine says, with a 0 at its end.
static char *text(wasm_byte_vec_t *bytes) {
  char *out = calloc(1, bytes->size + 1);
  if (out == NULL) abort();
  memcpy(out, bytes->data, bytes->size);
  wasm_byte_vec_delete(bytes);
  return out;
}

// failure is the text of an error or a trap, which it deletes; NULL if there is none.
static char *failure(wasmtime_error_t *error, wasm_trap_t *trap) {
  wasm_byte_vec_t bytes;
  char *out = NULL;
  if (error != NULL) {
    wasmtime_error_message(error, &bytes);
    wasmtime_error_delete(error);
    out = text(&bytes);
  }
  if (trap != NULL) {
    if (out == NULL) {
      wasm_trap_message(trap, &bytes);
      out = text(&bytes);
    }
    wasm_trap_delete(trap);
  }
  return out;
}

// fail notes a failure, the first of a call.
static void fail(call *c, char *why) {
  if (c->failure == NULL) {
    c->failure = why;
  } else {
    free(why);
  }
}

// leave reads what Go may look at while the contract does not run.
static void leave(call *c) {
  wasmtime_val_t points;
  c->memory = wasmtime_memory_data(c->context, &c->memory_of);
  c->size = wasmtime_memory_data_size(c->context, &c->memory_of);
  wasmtime_global_get(c->context, &c->points_of, &points);
  c->points = points.of.i64;
}

// enter writes what Go may have changed, before the contract runs.
static bool enter(call *c) {
  wasmtime_val_t points = {.kind = KIND_I64, .of = {.i64 = c->points}};
  wasmtime_error_t *error = wasmtime_global_set(c->context, &c->points_of, &points);
  if (error != NULL) fail(c, failure(error, NULL));
  return error == NULL;
}

// An import's number, parameters and result in one word.
#define PACKED(number, params, result) ((void *)((uintptr_t)(number) | (uintptr_t)(params) << 8 | (uintptr_t)(result) << 16))

// imported is every import: the store says whose call it is.
static wasm_trap_t *imported(void *packed, wasmtime_caller_t *caller, wasmtime_val_raw_t *values, size_t count) {
  uint8_t number = (uintptr_t)packed, params = (uintptr_t)packed >> 8, result = (uintptr_t)packed >> 16;
  call *c = wasmtime_context_get_data(wasmtime_caller_context(caller));
  if (count < params) abort();
  for (uint8_t i = 0; i < params; i++) c->args[i] = values[i].i32;
  leave(c);
  if (!hypermeshImport(c, number)) c->stopped = true;
  if (!enter(c) || c->stopped) return wasmtime_trap_new("stopped", 7);
  if (result == 32) values[0].i64 = (uint32_t)c->value;
  if (result == 64) values[0].i64 = c->value;
  return NULL;
}

char *native_import(wasmtime_linker_t *linker, const char *name, uint8_t number, uint8_t params, uint8_t result_bits) {
  wasm_valtype_t *types[MAX_ARGS];
  wasm_valtype_vec_t in, out;
  if (params > MAX_ARGS) abort();
  for (uint8_t i = 0; i < params; i++) types[i] = wasm_valtype_new(KIND_I32);
  wasm_valtype_vec_new(&in, params, types);
  if (result_bits != 0) types[0] = wasm_valtype_new(result_bits == 64 ? KIND_I64 : KIND_I32);
  wasm_valtype_vec_new(&out, result_bits != 0, types);
  wasm_functype_t *type = wasm_functype_new(&in, &out);
  wasmtime_error_t *error = wasmtime_linker_define_func_unchecked(
      linker, "env", 3, name, strlen(name), type, imported, PACKED(number, params, result_bits), NULL);
  wasm_functype_delete(type);
  return failure(error, NULL);
}

char *native_link(wasmtime_linker_t *linker, const wasmtime_module_t *module, wasmtime_instance_pre_t **out) {
  return failure(wasmtime_linker_instantiate_pre(linker, module, out), NULL);
}

// find looks up an export of some kind.
static bool find(call *c, const wasmtime_instance_t *in, const char *name, size_t length, uint8_t kind, wasmtime_extern_t *out) {
  return wasmtime_instance_export_get(c->context, in, name, length, out) && out->kind == kind;
}

// reach looks up what calls reach of a contract. An entry that is not there is not
// looked for.
static bool reach(call *c, const wasmtime_instance_t *in, const exports *names, const char *entry, size_t entry_length) {
  wasmtime_extern_t memory, points, stack, reason, allocate, deallocate, called;
  bool all = find(c, in, names->memory, strlen(names->memory), KIND_MEMORY, &memory) &&
             find(c, in, names->points, strlen(names->points), KIND_GLOBAL, &points) &&
             find(c, in, names->stack, strlen(names->stack), KIND_GLOBAL, &stack) &&
             find(c, in, names->reason, strlen(names->reason), KIND_GLOBAL, &reason) &&
             find(c, in, names->allocate, strlen(names->allocate), KIND_FUNC, &allocate) &&
             find(c, in, names->deallocate, strlen(names->deallocate), KIND_FUNC, &deallocate) &&
             find(c, in, entry, entry_length, KIND_FUNC, &called);
  if (!all) return false;
  c->memory_of = memory.of.memory;
  c->points_of = points.of.global;
  c->stack_of = stack.of.global;
  c->reason_of = reason.of.global;
  c->functions[FUNCTION_ALLOCATE] = allocate.of.func;
  c->functions[FUNCTION_DEALLOCATE] = deallocate.of.func;
  c->functions[FUNCTION_ENTRY] = called.of.func;
  return true;
}

call *native_begin(
    wasm_engine_t *engine, const wasmtime_instance_pre_t *pre, const exports *names, const char *entry, size_t entry_length,
    const limits *of, uintptr_t handle) {
  call *c = calloc(1, sizeof *c);
  if (c == NULL) abort();
  c->handle = handle;
  c->store = wasmtime_store_new(engine, c, NULL);
  c->context = wasmtime_store_context(c->store);
  wasmtime_store_limiter(c->store, of->memory_bytes, -1, 1, 1, 1);
  wasmtime_context_set_epoch_deadline(c->context, of->ticks);
  wasmtime_instance_t instance;
  wasm_trap_t *trap = NULL;
  wasmtime_error_t *error = wasmtime_instance_pre_instantiate(pre, c->context, &instance, &trap);
  if ((c->failure = failure(error, trap)) != NULL) return c;
  if (!reach(c, &instance, names, entry, entry_length)) {
    c->failure = strdup("an export is not there");
    return c;
  }
  wasmtime_val_t stack = {.kind = KIND_I32, .of = {.i32 = of->stack_bytes}};
  if ((c->failure = failure(wasmtime_global_set(c->context, &c->stack_of, &stack), NULL)) != NULL) return c;
  c->points = of->points;
  if (enter(c)) leave(c);
  return c;
}

int native_call(call *c, int function, int32_t a, int32_t b, int32_t d, size_t count) {
  wasmtime_val_t args[3] = {
      {.kind = KIND_I32, .of = {.i32 = a}}, {.kind = KIND_I32, .of = {.i32 = b}}, {.kind = KIND_I32, .of = {.i32 = d}}};
  wasmtime_val_t result = {.kind = KIND_I32}, reason;
  wasm_trap_t *trap = NULL;
  if (!enter(c)) return CALL_FAILED;
  wasmtime_error_t *error = wasmtime_func_call(
      c->context, &c->functions[function], args, count, &result, function != FUNCTION_DEALLOCATE, &trap);
  leave(c);
  if (error == NULL && trap == NULL) {
    c->value = result.of.i32;
    return CALL_RETURNED;
  }
  bool coded = error == NULL && wasmtime_trap_code(trap, &c->trap);
  if (!c->stopped && !coded) {
    fail(c, failure(error, trap));
  } else {
    if (error != NULL) wasmtime_error_delete(error);
    if (trap != NULL) wasm_trap_delete(trap);
    wasmtime_global_get(c->context, &c->reason_of, &reason);
    c->reason = reason.of.i32;
  }
  if (c->failure != NULL) return CALL_FAILED;
  return c->stopped ? CALL_STOPPED : CALL_TRAPPED;
}

void native_end(call *c) {
  wasmtime_store_delete(c->store);
  free(c->failure);
  free(c);
}
