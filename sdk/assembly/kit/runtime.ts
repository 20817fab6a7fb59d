// Memory of contracts, in place of the compiler's own (asconfig.json): objects lie one behind the other, and none
// is given back, since a contract's memory lives for one call.
//
// Before an object are eight bytes: what its class is, and how large it is.

const header: usize = 8;

// most bounds what is allocated at once: a contract's whole memory.
const most: usize = 32 << 20;

let next: usize = 0; // where the next object begins; 0: nothing was allocated yet

// allocate returns room for some bytes.
export function allocate(size: usize): usize {
  if (size > most) unreachable();
  if (next == 0) next = (__heap_base + 7) & ~7;
  const at = next;
  next += (size + 7) & ~7;
  const have = <usize>memory.size() << 16;
  if (next > have && memory.grow(<i32>((next - have + 0xffff) >> 16)) < 0) unreachable();
  return at;
}

// create returns an object of a class.
export function create(size: usize, id: u32): usize {
  if (size > most) unreachable();
  const at = allocate(header + size) + header;
  store<u32>(at - 8, id);
  store<u32>(at - 4, <u32>size);
  return at;
}

// enlarge returns an object with what was in another.
export function enlarge(old: usize, size: usize): usize {
  const at = create(size, load<u32>(old - 8));
  const kept = <usize>load<u32>(old - 4);
  memory.copy(at, old, kept < size ? kept : size);
  return at;
}
