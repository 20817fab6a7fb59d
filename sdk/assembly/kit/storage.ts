// Typed storage. Values are JSON; keys are laid out as cw-storage-plus lays them out,
// so that what reads the raw storage of CosmWasm's contracts reads this too: an
// item's key is its name, a map's begin with the name behind its length, and so does
// every part of a key but the last.

import { Bytes, give, take } from "./abi";
import { db_next, db_read, db_remove, db_scan, db_write } from "./host";
import { Json, Writer } from "./json";

// encode writes a value: a bool, a whole number, a string, or what has a method
// write.
export function encode<T>(w: Writer, value: T): void {
  if (isBoolean<T>()) w.bool(<bool>value);
  else if (isInteger<T>()) {
    if (isSigned<T>()) w.i64(<i64>value);
    else w.u64(<u64>value);
  } else if (isString<T>()) w.text(changetype<string>(value));
  else value.write(w);
}

// decode reads what encode has written.
export function decode<T>(json: Json): T {
  if (isBoolean<T>()) return <T>json.bool();
  if (isInteger<T>()) {
    if (isSigned<T>()) {
      const n = json.i64();
      if (<i64>(<T>n) != n) throw new Error("JSON: number out of range");
      return <T>n;
    }
    const n = json.u64();
    if (<u64>(<T>n) != n) throw new Error("JSON: number out of range");
    return <T>n;
  }
  if (isString<T>()) return changetype<T>(json.text());
  const value = instantiate<T>();
  value.read(json);
  return value;
}

// part is one part of a key: a string, bytes, or a number, the highest byte first. Those below zero come before
// the others.
function part<K>(key: K): Bytes {
  if (isInteger<K>()) return Bytes.integer<K>(turned<K>(key));
  if (isString<K>()) return Bytes.of(changetype<string>(key));
  return changetype<Bytes>(key);
}

// turned is a number whose bytes have its order: with a sign the first bit is the other.
function turned<K>(key: K): K {
  return isSigned<K>() ? <K>(key ^ (<K>1 << <K>(sizeof<K>() * 8 - 1))) : key;
}

function unpart<K>(key: Bytes): K {
  if (isInteger<K>()) return turned<K>(key.number<K>());
  if (isString<K>()) return changetype<K>(key.text());
  return changetype<K>(key);
}

// read returns what is kept under a key, and nothing if there is nothing.
function read(key: Bytes): Bytes | null {
  const at = db_read(give(key));
  return at == 0 ? null : take(at);
}

function write<T>(key: Bytes, value: T): void {
  const w = new Writer();
  encode<T>(w, value);
  db_write(give(key), give(w.bytes()));
}

function need<T>(key: Bytes, name: string): T {
  const value = read(key);
  if (value === null) throw new Error(name + " not found");
  return decode<T>(Json.parse(value));
}

function otherwise<T>(key: Bytes, value: T): T {
  const found = read(key);
  return found === null ? value : decode<T>(Json.parse(found));
}

// Item is one value.
@final
export class Item<T> {
  private key: Bytes;

  constructor(private name: string) {
    this.key = Bytes.of(name);
  }

  has(): bool {
    return read(this.key) !== null;
  }

  // load returns the value, which must be there.
  load(): T {
    return need<T>(this.key, this.name);
  }

  // or returns the value, or another if there is none.
  or(value: T): T {
    return otherwise<T>(this.key, value);
  }

  save(value: T): void {
    write<T>(this.key, value);
  }

  remove(): void {
    db_remove(give(this.key));
  }
}

// Map is values by keys. A key is a string, Bytes or a whole number.
@final
export class Map<K, V> {
  private prefix: Bytes;

  constructor(private name: string) {
    this.prefix = Bytes.of(name).prefixed();
  }

  // under returns the part of the map whose keys begin with a part: a map of pairs is
  // new Map<B, V>(name).under(a).
  under<P>(key: P): Map<K, V> {
    const map = new Map<K, V>(this.name);
    map.prefix = this.prefix.then(part<P>(key).prefixed());
    return map;
  }

  private at(key: K): Bytes {
    return this.prefix.then(part<K>(key));
  }

  has(key: K): bool {
    return read(this.at(key)) !== null;
  }

  // load returns a value, which must be there.
  load(key: K): V {
    return need<V>(this.at(key), this.name);
  }

  // or returns a value, or another if there is none.
  or(key: K, value: V): V {
    return otherwise<V>(this.at(key), value);
  }

  save(key: K, value: V): void {
    write<V>(this.at(key), value);
  }

  remove(key: K): void {
    db_remove(give(this.at(key)));
  }

  // up walks over the entries in the order of their keys, down the other way.
  up(): Entries<K, V> {
    return new Entries<K, V>(this.prefix.length, this.prefix, this.prefix.after(), 1);
  }

  down(): Entries<K, V> {
    return new Entries<K, V>(this.prefix.length, this.prefix, this.prefix.after(), 2);
  }

  // upAfter walks over those behind a key, and downBefore back from one, both without
  // it.
  upAfter(key: K): Entries<K, V> {
    const from = this.at(key).then(Bytes.integer<u8>(0));
    return new Entries<K, V>(this.prefix.length, from, this.prefix.after(), 1);
  }

  downBefore(key: K): Entries<K, V> {
    return new Entries<K, V>(this.prefix.length, this.prefix, this.at(key), 2);
  }
}

// Entries is a walk: while (walk.next()) there are a key and a value.
@final
export class Entries<K, V> {
  private walk: u32;
  private found: Bytes = new Bytes();
  private kept: Bytes = new Bytes();

  constructor(
    private prefix: usize,
    from: Bytes,
    to: Bytes | null,
    order: i32,
  ) {
    this.walk = db_scan(give(from), to === null ? 0 : give(to), order);
  }

  next(): bool {
    // The key, its length, the value and its length, in four bytes each.
    const both = take(db_next(this.walk));
    const value = both.length - 4 - bswap(load<u32>(both.at + both.length - 4));
    const key = bswap(load<u32>(both.at + value - 4));
    if (key == 0) return false;
    this.found = both.slice(this.prefix, key);
    this.kept = both.slice(value, both.length - 4);
    return true;
  }

  key(): K {
    return unpart<K>(this.found);
  }

  value(): V {
    return decode<V>(Json.parse(this.kept));
  }
}
