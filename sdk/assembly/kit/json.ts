// JSON, read and written without reflection. What is read is checked as a whole
// before any of it is used: one text has one meaning, and nothing is guessed.

import { Bytes, copy, isText, pair, same, utf8 } from "./abi";
import { U128, U256 } from "./ints";

// maxDepth bounds how deep lists and objects are in each other, and maxFields how
// many fields an object has.
const maxDepth = 32;
const maxFields = 256;

const enum Kind {
  Null,
  False,
  True,
  Number,
  Text,
  List,
  Object,
}

// Json is a value that was read.
@final
export class Json {
  private kind: Kind = Kind.Null;
  private at: usize = 0; // where a number, or what is between a text's quotes, begins
  private end: usize = 0;
  private from: usize = 0; // where the value as it was written begins, and ends
  private to: usize = 0;
  private nameAt: usize = 0; // its name, if it is a field
  private nameEnd: usize = 0;
  private first: Json | null = null; // of a list's values, or an object's fields
  private next: Json | null = null;
  private taken: bool = false;
  private escapes: bool = false; // in a text

  // parse reads a text that is one value.
  static parse(text: Bytes): Json {
    at = text.at;
    end = text.at + text.length;
    if (!isText(at, end)) throw new Error("JSON: not UTF-8");
    space();
    const json = Json.value(0);
    space();
    if (at != end) wrong();
    return json;
  }

  private static value(depth: i32): Json {
    if (depth > maxDepth) throw new Error("JSON: too deep");
    const json = new Json();
    json.from = at;
    const c = peek();
    if (c == 0x7b) json.object(depth);
    else if (c == 0x5b) json.list(depth);
    else if (c == 0x22) {
      json.kind = Kind.Text;
      json.escapes = quoted();
      json.at = textAt;
      json.end = at - 1;
    } else if (c == 0x74) {
      json.kind = Kind.True;
      word(0x65757274, 4);
    } else if (c == 0x66) {
      json.kind = Kind.False;
      at++;
      word(0x65736c61, 4);
    } else if (c == 0x6e) word(0x6c6c756e, 4);
    else {
      json.kind = Kind.Number;
      json.at = at;
      number();
      json.end = at;
    }
    json.to = at;
    return json;
  }

  private list(depth: i32): void {
    this.kind = Kind.List;
    at++;
    space();
    if (skip(0x5d)) return;
    let last: Json | null = null;
    do {
      space();
      const one = Json.value(depth + 1);
      if (last === null) this.first = one;
      else last.next = one;
      last = one;
      space();
    } while (skip(0x2c));
    need(0x5d);
  }

  private object(depth: i32): void {
    this.kind = Kind.Object;
    at++;
    space();
    if (skip(0x7d)) return;
    let last: Json | null = null;
    let fields = 0;
    do {
      space();
      if (peek() != 0x22) wrong();
      if (quoted()) throw new Error("JSON: an escape in a name");
      const nameAt = textAt;
      const nameEnd = at - 1;
      if (this.find(nameAt, nameEnd) !== null) throw new Error("JSON: a field twice");
      if (++fields > maxFields) throw new Error("JSON: too many fields");
      space();
      need(0x3a);
      space();
      const one = Json.value(depth + 1);
      one.nameAt = nameAt;
      one.nameEnd = nameEnd;
      if (last === null) this.first = one;
      else last.next = one;
      last = one;
      space();
    } while (skip(0x2c));
    need(0x7d);
  }

  private find(nameAt: usize, nameEnd: usize): Json | null {
    let one = this.first;
    while (one !== null) {
      const length = one.nameEnd - one.nameAt;
      if (length == nameEnd - nameAt && same(one.nameAt, nameAt, length)) return one;
      one = one.next;
    }
    return null;
  }

  // name is what the field is called.
  name(): string {
    return new Bytes(this.nameAt, this.nameEnd - this.nameAt).text();
  }

  // named tells whether a field has this name.
  named(name: string): bool {
    return new Bytes(this.nameAt, this.nameEnd - this.nameAt).equals(Bytes.of(name));
  }

  // variant returns the one field of an object that must have one: how enums are
  // written.
  variant(): Json {
    if (this.kind == Kind.Object) {
      const first = this.first;
      if (first !== null && first.next === null) return first;
    }
    throw new Error("JSON: want an object with one field");
  }

  // maybe returns a field, and nothing if it is not there or null.
  maybe(name: string): Json | null {
    if (this.kind != Kind.Object) throw new Error("JSON: want an object");
    const want = Bytes.of(name);
    const found = this.find(want.at, want.at + want.length);
    if (found === null) return null;
    found.taken = true;
    return found.kind == Kind.Null ? null : found;
  }

  // field returns a field that must be there.
  field(name: string): Json {
    const found = this.maybe(name);
    if (found === null) throw new Error("JSON: no field " + name);
    return found;
  }

  // done refuses fields that nobody has asked for.
  done(): void {
    if (this.kind != Kind.Object) throw new Error("JSON: want an object");
    let one = this.first;
    while (one !== null) {
      if (!one.taken) throw new Error("JSON: unknown field " + one.name());
      one = one.next;
    }
  }

  // head returns the first value of a list, and tail the one after this: nothing
  // behind the last.
  head(): Json | null {
    if (this.kind != Kind.List) throw new Error("JSON: want a list");
    return this.first;
  }

  tail(): Json | null {
    return this.next;
  }

  bool(): bool {
    if (this.kind != Kind.True && this.kind != Kind.False) throw new Error("JSON: want true or false");
    return this.kind == Kind.True;
  }

  // u64 reads a number, and u64Text one that is written as a text.
  u64(): u64 {
    return small(this.number());
  }

  u64Text(): u64 {
    return small(this.decimal());
  }

  u32(): u32 {
    const n = this.u64();
    if (n > u32.MAX_VALUE) throw new Error("JSON: number out of range");
    return <u32>n;
  }

  i64(): i64 {
    const text = this.number();
    const minus = text.byte(0) == 0x2d;
    const n = small(text.slice(<usize>minus, text.length));
    if (n > <u64>i64.MAX_VALUE + <u64>minus) throw new Error("JSON: number out of range");
    return minus ? -(<i64>n) : <i64>n;
  }

  // u128 and u256 read numbers that are written as texts.
  u128(): U128 {
    return U128.digits(this.decimal());
  }

  u256(): U256 {
    return U256.digits(this.decimal());
  }

  private number(): Bytes {
    if (this.kind != Kind.Number) throw new Error("JSON: want a number");
    return new Bytes(this.at, this.end - this.at);
  }

  private decimal(): Bytes {
    if (this.kind != Kind.Text) throw new Error("JSON: want a number in quotes");
    return new Bytes(this.at, this.end - this.at);
  }

  // isText tells whether it is one: what an enum's variant without fields is written as.
  isText(): bool {
    return this.kind == Kind.Text;
  }

  // text reads a text.
  text(): string {
    return this.utf8().text();
  }

  // utf8 reads a text's bytes.
  utf8(): Bytes {
    if (this.kind != Kind.Text) throw new Error("JSON: want a text");
    return this.escapes ? unescape(this.at, this.end) : new Bytes(this.at, this.end - this.at);
  }

  // raw returns the value as it was written.
  raw(): Bytes {
    return new Bytes(this.from, this.to - this.from);
  }

  // bytes reads a text that is base64.
  bytes(): Bytes {
    return unbase64(this.utf8());
  }
}

// small reads digits of 64 bits, in their shortest form.
function small(text: Bytes): u64 {
  let n: u64 = 0;
  for (let i: usize = 0; i < text.length; i++) {
    const digit = <u64>load<u8>(text.at + i) - 0x30;
    if (digit > 9 || (n == 0 && i > 0)) throw new Error("JSON: not a whole number");
    if (n > (u64.MAX_VALUE - digit) / 10) throw new Error("JSON: number out of range");
    n = n * 10 + digit;
  }
  if (text.length == 0) throw new Error("JSON: not a whole number");
  return n;
}

// Where the reader is.
let at: usize = 0;
let end: usize = 0;
let textAt: usize = 0; // of the text that quoted has read

function wrong(): void {
  throw new Error("JSON: malformed");
}

function peek(): u8 {
  return at < end ? load<u8>(at) : 0;
}

function space(): void {
  while (at < end) {
    const c = load<u8>(at);
    if (c != 0x20 && c - 9 > 1 && c != 0x0d) return;
    at++;
  }
}

function skip(c: u8): bool {
  if (peek() != c) return false;
  at++;
  return true;
}

function need(c: u8): void {
  if (!skip(c)) wrong();
}

// word reads true, null, or the rest of false.
function word(letters: u32, length: usize): void {
  if (end - at < length || load<u32>(at) != letters) wrong();
  at += length;
}

function digit(): bool {
  return <u8>(peek() - 0x30) < 10;
}

function someDigits(): void {
  if (!digit()) wrong();
  while (digit()) at++;
}

function number(): void {
  skip(0x2d);
  if (!skip(0x30)) someDigits();
  if (skip(0x2e)) someDigits();
  if ((peek() | 0x20) == 0x65) {
    at++;
    if (!skip(0x2b)) skip(0x2d);
    someDigits();
  }
}

// quoted reads a text, with its quotes, and tells whether it has escapes.
function quoted(): bool {
  let p = at + 1;
  textAt = p;
  let escapes = false;
  while (true) {
    const c: u32 = p < end ? load<u8>(p) : 0;
    if (c == 0x22) break;
    if (c < 0x20) wrong(); // the end, too
    p++;
    if (c == 0x5c) {
      escapes = true;
      at = p;
      escape();
      p = at;
    }
  }
  at = p + 1;
  return escapes;
}

// escape reads what is behind a backslash, and returns the code unit.
function escape(): u32 {
  const c = peek();
  at++;
  if (c == 0x22 || c == 0x5c || c == 0x2f) return c;
  if (c == 0x62) return 8;
  if (c == 0x66) return 12;
  if (c == 0x6e) return 10;
  if (c == 0x72) return 13;
  if (c == 0x74) return 9;
  if (c != 0x75) wrong();
  let unit: u32 = 0;
  for (let i = 0; i < 4; i++) {
    const h = <u32>peek();
    const letter = (h | 0x20) - 0x61;
    at++;
    if (h - 0x30 < 10) unit = (unit << 4) | (h - 0x30);
    else if (letter < 6) unit = (unit << 4) | (letter + 10);
    else wrong();
  }
  return unit;
}

// unescape returns the bytes of a text that quoted has passed.
function unescape(from: usize, to: usize): Bytes {
  const out = heap.alloc(to - from); // an escape is never shorter than what it stands for
  let length: usize = 0;
  at = from;
  end = to;
  while (at < to) {
    const c = load<u8>(at++);
    if (c != 0x5c) {
      store<u8>(out + length++, c);
      continue;
    }
    let point = escape();
    if (point >> 11 == 0x1b) {
      // half of a pair
      if (point >> 10 != 0x36 || !skip(0x5c) || peek() != 0x75) wrong();
      const low = escape();
      if (low >> 10 != 0x37) wrong();
      point = pair(point, low);
    }
    length += utf8(out + length, point);
  }
  return new Bytes(out, length);
}

// sixBits is the value of a letter of base64.
function sixBits(c: u32): u32 {
  if (c - 0x41 < 26) return c - 0x41;
  if (c - 0x61 < 26) return c - 0x61 + 26;
  if (c - 0x30 < 10) return c - 0x30 + 52;
  if (c == 0x2b) return 62;
  if (c != 0x2f) throw new Error("JSON: not base64");
  return 63;
}

function unbase64(text: Bytes): Bytes {
  let letters = text.length;
  if (letters % 4 != 0) throw new Error("JSON: not base64");
  if (letters > 0 && load<u8>(text.at + letters - 1) == 0x3d) {
    letters--;
    if (load<u8>(text.at + letters - 1) == 0x3d) letters--;
  }
  const out = heap.alloc(text.length);
  let length: usize = 0;
  let held: u32 = 0;
  let bits = 0;
  for (let i: usize = 0; i < letters; i++) {
    held = (held << 6) | sixBits(load<u8>(text.at + i));
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      store<u8>(out + length++, <u8>(held >> bits));
      held &= (1 << bits) - 1;
    }
  }
  if (held != 0) throw new Error("JSON: not base64");
  return new Bytes(out, length);
}

// Writer writes one value.
@final
export class Writer {
  private at: usize = 0;
  private length: usize = 0;
  private room: usize = 0;
  private comma: bool = false;
  private lists: u64 = 1; // a bit for each list or object that is open, behind a one

  // bytes returns what was written.
  bytes(): Bytes {
    if (this.lists != 1 || this.length == 0) throw new Error("JSON: not ended");
    return new Bytes(this.at, this.length);
  }

  // object begins an object, whose fields follow, and list a list, whose values
  // follow. end ends the last that is open.
  object(): Writer {
    return this.open(0x7b, 0);
  }

  list(): Writer {
    return this.open(0x5b, 1);
  }

  end(): Writer {
    if (this.lists == 1) throw new Error("JSON: nothing to end");
    this.byte((this.lists & 1) != 0 ? 0x5d : 0x7d);
    this.lists >>= 1;
    this.comma = true;
    return this;
  }

  // field begins a field, whose value follows.
  field(name: string): Writer {
    this.text(name).byte(0x3a);
    this.comma = false;
    return this;
  }

  null(): Writer {
    return this.word("null");
  }

  bool(b: bool): Writer {
    return this.word(b ? "true" : "false");
  }

  // u64 writes a number, and u64Text one as a text.
  u64(n: u64): Writer {
    this.begin();
    this.digits(n);
    return this;
  }

  u64Text(n: u64): Writer {
    this.begin();
    this.byte(0x22);
    this.digits(n);
    this.byte(0x22);
    return this;
  }

  i64(n: i64): Writer {
    this.begin();
    if (n < 0) this.byte(0x2d);
    this.digits(n < 0 ? -n : n);
    return this;
  }

  u128(n: U128): Writer {
    return this.quoted(n.decimal());
  }

  u256(n: U256): Writer {
    return this.quoted(n.decimal());
  }

  text(text: string): Writer {
    return this.quoted(Bytes.of(text));
  }

  // binary writes bytes in base64.
  binary(bytes: Bytes): Writer {
    this.begin();
    this.byte(0x22);
    for (let i: usize = 0; i < bytes.length; i += 3) {
      const left = bytes.length - i;
      let three = <u32>load<u8>(bytes.at + i) << 16;
      if (left > 1) three |= <u32>load<u8>(bytes.at + i + 1) << 8;
      if (left > 2) three |= load<u8>(bytes.at + i + 2);
      this.byte(letter(three >> 18));
      this.byte(letter((three >> 12) & 63));
      this.byte(left > 1 ? letter((three >> 6) & 63) : 0x3d);
      this.byte(left > 2 ? letter(three & 63) : 0x3d);
    }
    this.byte(0x22);
    return this;
  }

  // json writes a value that is JSON already.
  json(value: Bytes): Writer {
    this.begin();
    return this.raw(value.at, value.length);
  }

  private open(c: u8, list: u64): Writer {
    if (this.lists >> 63 != 0) throw new Error("JSON: too deep");
    this.begin();
    this.byte(c);
    this.lists = (this.lists << 1) | list;
    this.comma = false;
    return this;
  }

  private begin(): void {
    if (this.comma) this.byte(0x2c);
    this.comma = true;
  }

  private word(text: string): Writer {
    return this.json(Bytes.of(text));
  }

  private digits(n: u64): void {
    if (n > 9) this.digits(n / 10);
    this.byte(<u8>(n % 10) + 0x30);
  }

  private quoted(text: Bytes): Writer {
    this.begin();
    this.byte(0x22);
    const end = text.at + text.length;
    let plain = text.at; // where bytes begin that are written as they are
    for (let p = plain; p < end; p++) {
      const c = load<u8>(p);
      if (c >= 0x20 && c != 0x22 && c != 0x5c) continue;
      this.raw(plain, p - plain);
      plain = p;
      if (c < 0x20) {
        this.raw(changetype<usize>(zeros), 4);
        this.byte(0x30 + (c >> 4));
        const low = c & 15;
        this.byte(low < 10 ? 0x30 + low : 0x57 + low);
        plain++;
      } else this.byte(0x5c);
    }
    this.raw(plain, end - plain);
    this.byte(0x22);
    return this;
  }

  private byte(c: u8): void {
    if (this.length == this.room) this.grow(1);
    store<u8>(this.at + this.length++, c);
  }

  private raw(at: usize, length: usize): Writer {
    if (this.length + length > this.room) this.grow(length);
    copy(this.at + this.length, at, length);
    this.length += length;
    return this;
  }

  private grow(by: usize): void {
    this.room = (this.length + by) * 2 + 64;
    const at = heap.alloc(this.room);
    copy(at, this.at, this.length);
    this.at = at;
  }
}

// zeros is how an escape of a control character begins.
const zeros: StaticArray<u8> = [0x5c, 0x75, 0x30, 0x30];

// letter is a letter of base64.
function letter(n: u32): u8 {
  if (n < 26) return <u8>n + 0x41;
  if (n < 52) return <u8>n + 0x47;
  if (n < 62) return <u8>n - 4;
  return n == 62 ? 0x2b : 0x2f;
}
