// What crosses the boundary between a contract and the chain: regions of memory,
// and the ends of a call. A contract's entry file exports allocate, deallocate and
// interface_version_8 of this file.
//
// Nothing that is allocated is given back: a contract's memory lives for one call.

import { abort as stop } from "./host";
import * as runtime from "./runtime";

// Region tells the chain where bytes are.
@unmanaged
class Region {
  offset: usize;
  capacity: usize;
  length: usize;
}

function describe(offset: usize, capacity: usize, length: usize): usize {
  const at = heap.alloc(offsetof<Region>());
  const region = changetype<Region>(at);
  region.offset = offset;
  region.capacity = capacity;
  region.length = length;
  return at;
}

// allocate makes a region with room for some bytes, for the chain to write into.
export function allocate(size: usize): usize {
  return describe(runtime.allocate(size), size, 0);
}

// deallocate takes a region back.
export function deallocate(_region: usize): void {}

// interface_version_8 says which interface the contract is made for.
export function interface_version_8(): void {}

// give describes bytes to the chain.
export function give(bytes: Bytes): usize {
  return describe(bytes.at, bytes.length, bytes.length);
}

// take returns the bytes of a region.
export function take(at: usize): Bytes {
  const region = changetype<Region>(at);
  return new Bytes(region.offset, region.length);
}

// abort is how the compiler has a contract stop: `throw new Error(text)` calls it.
// The text is the contract's refusal; file, line and column are not told.
export function abort(text: string | null, _file: string | null, _line: u32, _column: u32): void {
  if (text !== null) stop(give(Bytes.of(text)));
  unreachable();
}

// Bytes are bytes somewhere in memory. Nothing changes them.
@final
export class Bytes {
  constructor(
    public at: usize = 0,
    public length: usize = 0,
  ) {}

  // of returns a text's bytes, in UTF-8.
  static of(text: string): Bytes {
    const at = heap.alloc(text.length * 3);
    let length: usize = 0;
    for (let i = 0; i < text.length; i++) {
      const four = i + 4 <= text.length ? load<u64>(changetype<usize>(text) + (<usize>i << 1)) : u64.MAX_VALUE;
      if ((four & 0xff80ff80ff80ff80) == 0) {
        // of a byte each
        const two = four | (four >> 8);
        store<u32>(at + length, <u32>((two & 0xffff) | ((two >> 16) & 0xffff0000)));
        length += 4;
        i += 3;
        continue;
      }
      let point = <u32>text.charCodeAt(i);
      if (point >> 11 == 0x1b) {
        // half of a pair
        const low = <u32>text.charCodeAt(++i);
        if (point >> 10 != 0x36 || low >> 10 != 0x37) throw new Error("half a letter");
        point = pair(point, low);
      }
      length += utf8(at + length, point);
    }
    return new Bytes(at, length);
  }

  // integer returns a number's bytes, the highest first.
  static integer<T extends number>(n: T): Bytes {
    const at = heap.alloc(sizeof<T>());
    store<T>(at, bswap<T>(n));
    return new Bytes(at, sizeof<T>());
  }

  // number reads what integer has written.
  number<T extends number>(): T {
    if (this.length != sizeof<T>()) throw new Error("not a number of this size");
    return bswap<T>(load<T>(this.at));
  }

  // text reads them as UTF-8.
  text(): string {
    let at = this.at;
    const end = at + this.length;
    if (!isText(at, end)) throw new Error("not a text");
    const out = heap.alloc(this.length << 1);
    let units: usize = 0;
    while (at < end) {
      const four = end - at >= 4 ? load<u32>(at) : u32.MAX_VALUE;
      if ((four & 0x80808080) == 0) {
        const two = (<u64>four | (<u64>four << 16)) & 0xffff0000ffff;
        store<u64>(out + (units << 1), (two | (two << 8)) & 0xff00ff00ff00ff);
        units += 4;
        at += 4;
        continue;
      }
      let point = <u32>load<u8>(at++);
      if (point >= 0x80) {
        const more = point < 0xe0 ? 1 : point < 0xf0 ? 2 : 3;
        point &= 0x3f >> more;
        for (let i = 0; i < more; i++) point = (point << 6) | (load<u8>(at++) & 0x3f);
      }
      if (point >= 0x10000) {
        store<u16>(out + (units++ << 1), <u16>(0xd7c0 + (point >> 10)));
        point = 0xdc00 | (point & 0x3ff);
      }
      store<u16>(out + (units++ << 1), <u16>point);
    }
    return String.UTF16.decodeUnsafe(out, units << 1);
  }

  // byte returns one of them.
  byte(index: usize): u8 {
    if (index >= this.length) throw new Error("out of range");
    return load<u8>(this.at + index);
  }

  // slice returns those from one, inclusive, to another, exclusive.
  slice(from: usize, to: usize): Bytes {
    if (from > to || to > this.length) throw new Error("out of range");
    return new Bytes(this.at + from, to - from);
  }

  // then returns these bytes with others behind them.
  then(other: Bytes): Bytes {
    const at = heap.alloc(this.length + other.length);
    copy(at, this.at, this.length);
    copy(at + this.length, other.at, other.length);
    return new Bytes(at, this.length + other.length);
  }

  // prefixed returns them behind their length, in two bytes.
  prefixed(): Bytes {
    if (this.length > 0xffff) throw new Error("a part of a key is too long");
    return Bytes.integer<u16>(<u16>this.length).then(this);
  }

  // after returns the first bytes that do not begin with these, none if there are none.
  after(): Bytes | null {
    let length = this.length;
    while (length > 0 && load<u8>(this.at + length - 1) == 0xff) length--;
    if (length == 0) return null;
    const at = heap.alloc(length);
    copy(at, this.at, length);
    store<u8>(at + length - 1, load<u8>(at + length - 1) + 1);
    return new Bytes(at, length);
  }

  equals(other: Bytes): bool {
    return this.length == other.length && same(this.at, other.at, this.length);
  }
}

// same tells whether bytes at two places are the same.
export function same(a: usize, b: usize, length: usize): bool {
  let i: usize = 0;
  for (; i + 8 <= length; i += 8) {
    if (load<u64>(a + i) != load<u64>(b + i)) return false;
  }
  for (; i < length; i++) {
    if (load<u8>(a + i) != load<u8>(b + i)) return false;
  }
  return true;
}

// copy copies bytes to where nothing of them lies.
export function copy(to: usize, from: usize, length: usize): void {
  let i: usize = 0;
  for (; i + 8 <= length; i += 8) store<u64>(to + i, load<u64>(from + i));
  for (; i < length; i++) store<u8>(to + i, load<u8>(from + i));
}

// isText tells whether bytes are well-formed UTF-8 (RFC 3629 §4).
export function isText(at: usize, end: usize): bool {
  while (at < end) {
    if (end - at >= 8 && (load<u64>(at) & 0x8080808080808080) == 0) {
      at += 8;
      continue;
    }
    const first = load<u8>(at++);
    if (first < 0x80) continue;
    let more = 1;
    let least: u8 = 0x80;
    let most: u8 = 0xbf;
    if (first >= 0xf0) {
      more = 3;
      if (first == 0xf0) least = 0x90;
      if (first == 0xf4) most = 0x8f;
    } else if (first >= 0xe0) {
      more = 2;
      if (first == 0xe0) least = 0xa0;
      if (first == 0xed) most = 0x9f;
    }
    if (first < 0xc2 || first > 0xf4) return false;
    for (; more > 0; more--) {
      if (at == end) return false;
      const next = load<u8>(at++);
      if (next < least || next > most) return false;
      least = 0x80;
      most = 0xbf;
    }
  }
  return true;
}

// pair is the code point of two halves.
export function pair(high: u32, low: u32): u32 {
  return 0x10000 + ((high & 0x3ff) << 10) + (low & 0x3ff);
}

// utf8 writes a code point, and returns how many bytes it takes.
export function utf8(out: usize, point: u32): usize {
  if (point < 0x80) {
    store<u8>(out, <u8>point);
    return 1;
  }
  const length: u32 = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
  for (let i = length - 1; i > 0; i--) {
    store<u8>(out + i, <u8>(0x80 | (point & 0x3f)));
    point >>= 6;
  }
  store<u8>(out, <u8>((0xf00 >> length) | point));
  return length;
}
