// Whole numbers of 128 and 256 bits without a sign, whose arithmetic is checked:
// what does not fit stops the contract.

import { Bytes, same } from "./abi";
import { Json, Writer } from "./json";

function overflow(): void {
  throw new Error("overflow");
}

// high returns the upper half of a product.
function high(a: u64, b: u64): u64 {
  const a0 = a & 0xffffffff;
  const a1 = a >> 32;
  const b0 = b & 0xffffffff;
  const b1 = b >> 32;
  const middle = a1 * b0 + ((a0 * b0) >> 32);
  return a1 * b1 + (middle >> 32) + ((a0 * b1 + (middle & 0xffffffff)) >> 32);
}

// readDigits reads a decimal number in its shortest form into words of 32 bits, the
// lowest first.
export function readDigits(text: Bytes, words: usize, count: usize): void {
  if (text.length == 0 || (text.length > 1 && load<u8>(text.at) == 0x30)) throw new Error("not a number");
  memory.fill(words, 0, count << 2);
  for (let i: usize = 0; i < text.length; i++) {
    let carry = <u64>load<u8>(text.at + i) - 0x30;
    if (carry > 9) throw new Error("not a whole number");
    for (let w: usize = 0; w < count; w++) {
      carry += <u64>load<u32>(words + (w << 2)) * 10;
      store<u32>(words + (w << 2), <u32>carry);
      carry >>= 32;
    }
    if (carry != 0) overflow();
  }
}

// writeDigits writes words as a decimal number. They become 0.
function writeDigits(words: usize, count: usize): Bytes {
  const end = heap.alloc(80) + 80;
  let at = end;
  do {
    let rest: u64 = 0;
    for (let w = count; w > 0; w--) {
      rest = (rest << 32) | load<u32>(words + ((w - 1) << 2));
      store<u32>(words + ((w - 1) << 2), <u32>(rest / 1000000000));
      rest %= 1000000000;
    }
    while (count > 0 && load<u32>(words + ((count - 1) << 2)) == 0) count--;
    for (let i = 0; i < 9 && (count > 0 || rest > 0 || at == end); i++) {
      store<u8>(--at, <u8>(rest % 10) + 0x30);
      rest /= 10;
    }
  } while (count > 0);
  return new Bytes(at, end - at);
}

// U128 is a number from 0 to 2¹²⁸-1.
@final
export class U128 {
  constructor(
    private low: u64 = 0,
    private top: u64 = 0,
  ) {}

  // of returns a small number, and parse one that is written in decimal.
  static of(n: u64): U128 {
    return new U128(n);
  }

  static parse(text: string): U128 {
    return U128.digits(Bytes.of(text));
  }

  static digits(text: Bytes): U128 {
    const n = new U128();
    if (text.length > 0 && text.length < 20 && load<u8>(text.at) != 0x30) {
      // 64 bits hold it
      for (let i: usize = 0; i < text.length; i++) {
        const digit = <u64>load<u8>(text.at + i) - 0x30;
        if (digit > 9) throw new Error("not a whole number");
        n.low = n.low * 10 + digit;
      }
      return n;
    }
    readDigits(text, changetype<usize>(n), 4);
    return n;
  }

  static max(): U128 {
    return new U128(u64.MAX_VALUE, u64.MAX_VALUE);
  }

  read(json: Json): void {
    const n = json.u128();
    this.low = n.low;
    this.top = n.top;
  }

  write(w: Writer): void {
    w.u128(this);
  }

  decimal(): Bytes {
    if (this.top == 0) {
      const end = heap.alloc(20) + 20;
      let at = end;
      let n = this.low;
      do {
        store<u8>(--at, <u8>(n % 10) + 0x30);
        n /= 10;
      } while (n != 0);
      return new Bytes(at, end - at);
    }
    const copy = new U128(this.low, this.top);
    return writeDigits(changetype<usize>(copy), 4);
  }

  toString(): string {
    return this.decimal().text();
  }

  isZero(): bool {
    return (this.low | this.top) == 0;
  }

  // u64 returns a number that fits.
  u64(): u64 {
    if (this.top != 0) overflow();
    return this.low;
  }

  wide(): U256 {
    return new U256(this.low, this.top);
  }

  @operator("+")
  plus(b: U128): U128 {
    const low = this.low + b.low;
    const top = this.top + b.top;
    const carry = <u64>(low < b.low);
    if (top < b.top || top + carry < top) overflow();
    return new U128(low, top + carry);
  }

  @operator("-")
  minus(b: U128): U128 {
    if (this < b) overflow();
    return new U128(this.low - b.low, this.top - b.top - <u64>(this.low < b.low));
  }

  @operator("*")
  times(b: U128): U128 {
    if (this.top != 0 && b.top != 0) overflow();
    // One of the two is small, and its products with the other's halves fit.
    const small = this.top == 0 ? this.low : b.low;
    const other = this.top == 0 ? b : this;
    if (high(other.top, small) != 0) overflow();
    const over = other.top * small;
    const top = over + high(other.low, small);
    if (top < over) overflow();
    return new U128(other.low * small, top);
  }

  @operator("/")
  over(b: U128): U128 {
    if ((this.top | b.top) == 0 && b.low != 0) return new U128(this.low / b.low);
    return this.wide().over(b.wide()).narrow();
  }

  @operator("%")
  rest(b: U128): U128 {
    if ((this.top | b.top) == 0 && b.low != 0) return new U128(this.low % b.low);
    return this.wide().rest(b.wide()).narrow();
  }

  // share returns this × part / whole, rounded down; only the result need fit.
  share(part: U128, whole: U128): U128 {
    return (this.wide() * part.wide()).over(whole.wide()).narrow();
  }

  @operator("==")
  equals(b: U128): bool {
    return this.low == b.low && this.top == b.top;
  }

  @operator("!=")
  differs(b: U128): bool {
    return this.low != b.low || this.top != b.top;
  }

  @operator("<")
  less(b: U128): bool {
    return this.top < b.top || (this.top == b.top && this.low < b.low);
  }

  @operator(">")
  more(b: U128): bool {
    return b.less(this);
  }

  @operator("<=")
  most(b: U128): bool {
    return !b.less(this);
  }

  @operator(">=")
  least(b: U128): bool {
    return !this.less(b);
  }
}

// U256 is a number from 0 to 2²⁵⁶-1.
@final
export class U256 {
  constructor(
    private a: u64 = 0, // the lowest 64 bits
    private b: u64 = 0,
    private c: u64 = 0,
    private d: u64 = 0,
  ) {}

  static of(n: u64): U256 {
    return new U256(n);
  }

  static parse(text: string): U256 {
    return U256.digits(Bytes.of(text));
  }

  static digits(text: Bytes): U256 {
    const n = new U256();
    readDigits(text, changetype<usize>(n), 8);
    return n;
  }

  static max(): U256 {
    return new U256(u64.MAX_VALUE, u64.MAX_VALUE, u64.MAX_VALUE, u64.MAX_VALUE);
  }

  // unsigned reads 32 bytes, the highest first, and toBytes writes them.
  static unsigned(bytes: Bytes): U256 {
    if (bytes.length != 32) throw new Error("want 32 bytes");
    const at = bytes.at;
    return new U256(bswap(load<u64>(at + 24)), bswap(load<u64>(at + 16)), bswap(load<u64>(at + 8)), bswap(load<u64>(at)));
  }

  toBytes(): Bytes {
    const at = heap.alloc(32);
    store<u64>(at, bswap(this.d));
    store<u64>(at + 8, bswap(this.c));
    store<u64>(at + 16, bswap(this.b));
    store<u64>(at + 24, bswap(this.a));
    return new Bytes(at, 32);
  }

  read(json: Json): void {
    const n = json.u256();
    this.a = n.a;
    this.b = n.b;
    this.c = n.c;
    this.d = n.d;
  }

  write(w: Writer): void {
    w.u256(this);
  }

  decimal(): Bytes {
    const copy = new U256(this.a, this.b, this.c, this.d);
    return writeDigits(changetype<usize>(copy), 8);
  }

  toString(): string {
    return this.decimal().text();
  }

  isZero(): bool {
    return (this.a | this.b | this.c | this.d) == 0;
  }

  // narrow returns a number that fits.
  narrow(): U128 {
    if ((this.c | this.d) != 0) overflow();
    return new U128(this.a, this.b);
  }

  private word(i: usize): u64 {
    return load<u32>(changetype<usize>(this) + (i << 2));
  }

  @operator("+")
  plus(other: U256): U256 {
    const sum = new U256();
    let carry: u64 = 0;
    for (let i: usize = 0; i < 8; i++) {
      carry += this.word(i) + other.word(i);
      store<u32>(changetype<usize>(sum) + (i << 2), <u32>carry);
      carry >>= 32;
    }
    if (carry != 0) overflow();
    return sum;
  }

  @operator("-")
  minus(other: U256): U256 {
    if (this < other) overflow();
    return this.without(other);
  }

  // without subtracts modulo 2²⁵⁶.
  private without(other: U256): U256 {
    const rest = new U256();
    let borrow: i64 = 0;
    for (let i: usize = 0; i < 8; i++) {
      borrow += <i64>this.word(i) - <i64>other.word(i);
      store<u32>(changetype<usize>(rest) + (i << 2), <u32>borrow);
      borrow >>= 32;
    }
    return rest;
  }

  @operator("*")
  times(other: U256): U256 {
    const product = new U256();
    for (let i: usize = 0; i < 8; i++) {
      const word = this.word(i);
      if (word == 0) continue;
      let carry: u64 = 0;
      for (let j: usize = 0; j < 8; j++) {
        const next = other.word(j);
        if (i + j > 7) {
          if (next != 0) overflow();
          continue;
        }
        carry += word * next + product.word(i + j);
        store<u32>(changetype<usize>(product) + ((i + j) << 2), <u32>carry);
        carry >>= 32;
      }
      if (carry != 0) overflow();
    }
    return product;
  }

  @operator("/")
  over(other: U256): U256 {
    const quotient = new U256();
    this.divide(other, quotient);
    return quotient;
  }

  @operator("%")
  rest(other: U256): U256 {
    return this.divide(other, new U256());
  }

  // divide fills in the quotient, and returns what is left: one bit after the other.
  private divide(other: U256, quotient: U256): U256 {
    if (other.isZero()) throw new Error("division by zero");
    let left = new U256();
    for (let i = 255; i >= 0; i--) {
      const out = left.d >> 63;
      const word = <usize>(i >> 6) << 3;
      const bit = (load<u64>(changetype<usize>(this) + word) >> (i & 63)) & 1;
      left.d = (left.d << 1) | (left.c >> 63);
      left.c = (left.c << 1) | (left.b >> 63);
      left.b = (left.b << 1) | (left.a >> 63);
      left.a = (left.a << 1) | bit;
      if (out != 0 || !left.less(other)) {
        left = left.without(other);
        const at = changetype<usize>(quotient) + word;
        store<u64>(at, load<u64>(at) | ((<u64>1) << (i & 63)));
      }
    }
    return left;
  }

  @operator("==")
  equals(b: U256): bool {
    return same(changetype<usize>(this), changetype<usize>(b), 32);
  }

  @operator("!=")
  differs(b: U256): bool {
    return !this.equals(b);
  }

  @operator("<")
  less(other: U256): bool {
    if (this.d != other.d) return this.d < other.d;
    if (this.c != other.c) return this.c < other.c;
    if (this.b != other.b) return this.b < other.b;
    return this.a < other.a;
  }

  @operator(">")
  more(b: U256): bool {
    return b.less(this);
  }

  @operator("<=")
  most(b: U256): bool {
    return !b.less(this);
  }

  @operator(">=")
  least(b: U256): bool {
    return !this.less(b);
  }
}
