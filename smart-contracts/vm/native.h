// What the machine uses of wasmtime's C interface, version 44, and what it makes of
// it. wasmtime-go links wasmtime and keeps its headers to itself, so what is used is
// declared here; a test holds it against their headers.
#ifndef HYPERMESH_NATIVE_H
#define HYPERMESH_NATIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// How large the types are that are passed, and where unions are in them.
#define FUNC_BYTES 16
#define INSTANCE_BYTES 16
#define MEMORY_BYTES 24
#define GLOBAL_BYTES 24
#define EXTERN_BYTES 32
#define VAL_BYTES 32
#define RAW_BYTES 16
#define UNION_OFFSET 8
#define VECTOR_BYTES 16
#define LINEAR_BYTES 32
#define CREATOR_BYTES 24

#define KIND_FUNC 0
#define KIND_GLOBAL 1
#define KIND_MEMORY 3
#define KIND_I32 0
#define KIND_I64 1

#ifndef WASMTIME_API_H // the test reads both

typedef struct wasm_engine_t wasm_engine_t;
typedef struct wasm_trap_t wasm_trap_t;
typedef struct wasm_config_t wasm_config_t;
typedef struct wasm_memorytype_t wasm_memorytype_t;
typedef struct wasm_valtype_t wasm_valtype_t;
typedef struct wasm_functype_t wasm_functype_t;
typedef struct wasmtime_error wasmtime_error_t;
typedef struct wasmtime_module wasmtime_module_t;
typedef struct wasmtime_store wasmtime_store_t;
typedef struct wasmtime_context wasmtime_context_t;
typedef struct wasmtime_linker wasmtime_linker_t;
typedef struct wasmtime_caller wasmtime_caller_t;
typedef struct wasmtime_instance_pre wasmtime_instance_pre_t;

typedef struct { uint64_t store; void *of; } wasmtime_func_t;
typedef struct { uint64_t store; size_t of; } wasmtime_instance_t;
typedef struct { uint64_t store; uint32_t of[3]; } wasmtime_memory_t;
typedef struct { uint64_t store; uint32_t of[3]; } wasmtime_global_t;

typedef struct {
  uint8_t kind;
  union { wasmtime_func_t func; wasmtime_global_t global; wasmtime_memory_t memory; } of;
} wasmtime_extern_t;

typedef struct {
  uint8_t kind;
  union { int32_t i32; int64_t i64; uint64_t others[3]; } of;
} wasmtime_val_t;

typedef union { int32_t i32; int64_t i64; uint64_t others[2]; } wasmtime_val_raw_t;

typedef struct { size_t size; char *data; } wasm_byte_vec_t;
typedef struct { size_t size; wasm_valtype_t **data; } wasm_valtype_vec_t;

typedef struct {
  void *env;
  uint8_t *(*get_memory)(void *env, size_t *size, size_t *capacity);
  wasmtime_error_t *(*grow_memory)(void *env, size_t size);
  void (*finalizer)(void *env);
} wasmtime_linear_memory_t;

typedef struct {
  void *env;
  wasmtime_error_t *(*new_memory)(
      void *env, const wasm_memorytype_t *type, size_t minimum, size_t maximum, size_t reserved, size_t guard,
      wasmtime_linear_memory_t *out);
  void (*finalizer)(void *env);
} wasmtime_memory_creator_t;

typedef wasm_trap_t *(*wasmtime_func_unchecked_callback_t)(void *, wasmtime_caller_t *, wasmtime_val_raw_t *, size_t);

#endif

void wasmtime_config_host_memory_creator_set(wasm_config_t *config, wasmtime_memory_creator_t *creator);
wasm_valtype_t *wasm_valtype_new(uint8_t kind);
void wasm_valtype_vec_new(wasm_valtype_vec_t *out, size_t size, wasm_valtype_t *const data[]);
wasm_functype_t *wasm_functype_new(wasm_valtype_vec_t *params, wasm_valtype_vec_t *results);
void wasm_functype_delete(wasm_functype_t *type);
void wasm_byte_vec_delete(wasm_byte_vec_t *bytes);
void wasm_trap_delete(wasm_trap_t *trap);
void wasm_trap_message(const wasm_trap_t *trap, wasm_byte_vec_t *out);
wasm_trap_t *wasmtime_trap_new(const char *text, size_t length);
bool wasmtime_trap_code(const wasm_trap_t *trap, uint8_t *code);
void wasmtime_error_message(const wasmtime_error_t *error, wasm_byte_vec_t *out);
wasmtime_error_t *wasmtime_error_new(const char *text);
void wasmtime_error_delete(wasmtime_error_t *error);
wasmtime_linker_t *wasmtime_linker_new(wasm_engine_t *engine);
void wasmtime_linker_delete(wasmtime_linker_t *linker);
wasmtime_error_t *wasmtime_linker_define_func_unchecked(
    wasmtime_linker_t *linker, const char *module, size_t module_length, const char *name, size_t name_length,
    const wasm_functype_t *type, wasmtime_func_unchecked_callback_t call, void *data, void (*finalizer)(void *));
wasmtime_error_t *wasmtime_linker_instantiate_pre(
    const wasmtime_linker_t *linker, const wasmtime_module_t *module, wasmtime_instance_pre_t **out);
void wasmtime_instance_pre_delete(wasmtime_instance_pre_t *pre);
wasmtime_error_t *wasmtime_instance_pre_instantiate(
    const wasmtime_instance_pre_t *pre, wasmtime_context_t *context, wasmtime_instance_t *out, wasm_trap_t **trap);
bool wasmtime_instance_export_get(
    wasmtime_context_t *context, const wasmtime_instance_t *instance, const char *name, size_t length, wasmtime_extern_t *out);
wasmtime_store_t *wasmtime_store_new(wasm_engine_t *engine, void *data, void (*finalizer)(void *));
void wasmtime_store_delete(wasmtime_store_t *store);
wasmtime_context_t *wasmtime_store_context(wasmtime_store_t *store);
void wasmtime_store_limiter(
    wasmtime_store_t *store, int64_t memory_bytes, int64_t elements, int64_t instances, int64_t tables, int64_t memories);
void *wasmtime_context_get_data(const wasmtime_context_t *context);
void wasmtime_context_set_epoch_deadline(wasmtime_context_t *context, uint64_t ticks);
wasmtime_context_t *wasmtime_caller_context(wasmtime_caller_t *caller);
uint8_t *wasmtime_memory_data(const wasmtime_context_t *context, const wasmtime_memory_t *memory);
size_t wasmtime_memory_data_size(const wasmtime_context_t *context, const wasmtime_memory_t *memory);
void wasmtime_global_get(wasmtime_context_t *context, const wasmtime_global_t *global, wasmtime_val_t *out);
wasmtime_error_t *wasmtime_global_set(wasmtime_context_t *context, const wasmtime_global_t *global, const wasmtime_val_t *value);
wasmtime_error_t *wasmtime_func_call(
    wasmtime_context_t *context, const wasmtime_func_t *func, const wasmtime_val_t *args, size_t count,
    wasmtime_val_t *results, size_t result_count, wasm_trap_t **trap);

#define MAX_ARGS 4 // of an import

// call is one call of a contract: a store and an instance of its own. What is not
// of the engine's is read and written by Go while the contract does not run.
typedef struct call {
  uintptr_t handle; // of the run, for the imports
  uint8_t *memory;  // of the contract, as it is now
  uint64_t size;    // of it
  int64_t points;   // that are left
  int64_t value;    // what the contract's function, or the import, gives
  int32_t args[MAX_ARGS]; // of the import
  int32_t reason;   // why the contract stopped itself, after a trap
  uint8_t trap;     // its code
  bool stopped;     // by an import
  char *failure;    // what the engine says that has failed, NULL for nothing

  wasmtime_store_t *store;
  wasmtime_context_t *context;
  wasmtime_memory_t memory_of;
  wasmtime_global_t points_of, stack_of, reason_of;
  wasmtime_func_t functions[3];
} call;

// The functions of a contract.
enum { FUNCTION_ALLOCATE, FUNCTION_DEALLOCATE, FUNCTION_ENTRY };

// What a contract's function came to.
enum { CALL_RETURNED, CALL_STOPPED /* by an import */, CALL_TRAPPED, CALL_FAILED };

// exports are the names of what calls reach of a contract.
typedef struct exports {
  const char *memory, *points, *stack, *reason, *allocate, *deallocate;
} exports;

// limits are of one call.
typedef struct limits {
  int64_t memory_bytes, points;
  int32_t stack_bytes;
  uint64_t ticks; // of the epoch
} limits;

// native_rooms has the memories of an engine be used again: rooms.c.
void native_rooms(wasm_config_t *config);

// native_thread_stack is how many bytes of stack the threads have that are made from now
// on, and the first.
uint64_t native_thread_stack(void);

// native_import defines an import of the given number, with some params of 32 bits
// and no result, or one of 32 or 64 bits. It returns what failed, to be freed.
char *native_import(wasmtime_linker_t *linker, const char *name, uint8_t number, uint8_t params, uint8_t result_bits);

// native_link binds a module to its imports. It returns what failed, to be freed.
char *native_link(wasmtime_linker_t *linker, const wasmtime_module_t *module, wasmtime_instance_pre_t **out);

// native_begin makes the instance of a call, which runs nothing of the contract.
// It ends with native_end, whether it failed or not.
call *native_begin(
    wasm_engine_t *engine, const wasmtime_instance_pre_t *pre, const exports *names, const char *entry, size_t entry_length,
    const limits *of, uintptr_t handle);

// native_call calls one of the contract's functions.
int native_call(call *c, int function, int32_t a, int32_t b, int32_t d, size_t count);

void native_end(call *c);

#endif
