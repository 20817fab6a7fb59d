// What a collection stores, in the form of cw721-base.

import { Bytes, Env, Expires, Item, Json, Map, Writer } from "./kit";

// maxApprovals bounds who may move one token beside its owner.
const maxApprovals = 16;

// Approval is who may move tokens, and until when.
@final
export class Approval {
  next: Approval | null = null;

  constructor(
    public spender: string = "",
    public expires: Expires = new Expires(),
  ) {}

  write(w: Writer): void {
    w.object().field("spender").text(this.spender).field("expires");
    this.expires.write(w);
    w.end();
  }
}

// traits reads a list of what a token has, and returns it as it was written.
function traits(list: Json): Bytes {
  let one = list.head();
  while (one !== null) {
    const kind = one.maybe("display_type");
    if (kind !== null) kind.text();
    one.field("trait_type").text();
    one.field("value").text();
    one.done();
    one = one.tail();
  }
  return list.raw();
}

// Metadata is what is known of a token: the texts and the list of the standard, each may be missing.
@final
export class Metadata {
  private attributes: Bytes | null = null; // as JSON
  private values: StaticArray<string> = new StaticArray<string>(8);
  private some: bool = false;

  // name returns what a text is called.
  private name(i: i32): string {
    if (i == 0) return "image";
    if (i == 1) return "image_data";
    if (i == 2) return "external_url";
    if (i == 3) return "description";
    if (i == 4) return "name";
    if (i == 5) return "background_color";
    if (i == 6) return "animation_url";
    return "youtube_url";
  }

  constructor() {
    for (let i = 0; i < 8; i++) this.values[i] = "";
  }

  read(json: Json): void {
    this.some = true;
    for (let i = 0; i < 8; i++) {
      const text = json.maybe(this.name(i));
      if (text !== null) this.values[i] = text.text();
    }
    const list = json.maybe("attributes");
    if (list !== null) this.attributes = traits(list);
    json.done();
  }

  write(w: Writer): void {
    if (!this.some) {
      w.null();
      return;
    }
    w.object();
    for (let i = 0; i < 8; i++) {
      if (this.values[i].length > 0) w.field(this.name(i)).text(this.values[i]);
    }
    const list = this.attributes;
    if (list !== null) w.field("attributes").json(list);
    w.end();
  }
}

@final
export class Token {
  owner: string = "";
  uri: string = "";
  extension: Metadata = new Metadata();
  private first: Approval | null = null;
  private count: i32 = 0;

  read(json: Json): void {
    this.owner = json.field("owner").text();
    let one = json.field("approvals").head();
    while (one !== null) {
      this.approve(one.field("spender").text(), Expires.from(one.maybe("expires")));
      one = one.tail();
    }
    const uri = json.maybe("token_uri");
    if (uri !== null) this.uri = uri.text();
    const extension = json.maybe("extension");
    if (extension !== null) this.extension.read(extension);
  }

  write(w: Writer): void {
    w.object().field("owner").text(this.owner).field("approvals");
    this.approvals(w, null);
    this.info(w);
    w.end();
  }

  // info writes what the token is.
  info(w: Writer): void {
    w.field("token_uri");
    if (this.uri.length == 0) w.null();
    else w.text(this.uri);
    w.field("extension");
    this.extension.write(w);
  }

  // approvals writes those that are not over at a time.
  approvals(w: Writer, at: Env | null): void {
    w.list();
    let one = this.first;
    while (one !== null) {
      if (at === null || !one.expires.passed(at)) one.write(w);
      one = one.next;
    }
    w.end();
  }

  // approval returns that of somebody.
  approval(spender: string): Approval | null {
    let one = this.first;
    while (one !== null && one.spender != spender) one = one.next;
    return one;
  }

  approve(spender: string, expires: Expires): void {
    this.revoke(spender);
    if (++this.count > maxApprovals) throw new Error("too many may move the token");
    const made = new Approval(spender, expires);
    let last = this.first;
    if (last === null) {
      this.first = made;
      return;
    }
    for (let next = last.next; next !== null; next = last.next) last = next;
    last.next = made;
  }

  revoke(spender: string): void {
    let before: Approval | null = null;
    let one = this.first;
    while (one !== null) {
      if (one.spender == spender) {
        if (before === null) this.first = one.next;
        else before.next = one.next;
        this.count--;
        return;
      }
      before = one;
      one = one.next;
    }
  }

  // handTo gives the token to somebody, whom alone it obeys then.
  handTo(owner: string): void {
    this.owner = owner;
    this.first = null;
    this.count = 0;
  }
}

export function tokens(): Map<string, Token> {
  return new Map<string, Token>("tokens");
}

// owned are the tokens of an owner, for lists.
export function owned(owner: string): Map<string, bool> {
  return new Map<string, bool>("tokens__owner").under(owner);
}

// operators may move all that an owner has.
export function operators(owner: string): Map<string, Expires> {
  return new Map<string, Expires>("operators").under(owner);
}

export function count(): Item<u64> {
  return new Item<u64>("num_tokens");
}

// purse is whose the money is that is sent to the collection's address.
export function purse(): Item<string> {
  return new Item<string>("withdraw_address");
}

@final
export class Collection {
  name: string = "";
  symbol: string = "";

  read(json: Json): void {
    this.name = json.field("name").text();
    this.symbol = json.field("symbol").text();
  }

  write(w: Writer): void {
    w.object().field("name").text(this.name).field("symbol").text(this.symbol).end();
  }
}

export function collection(): Item<Collection> {
  return new Item<Collection>("nft_info");
}

// Ownership is whose the collection is, who makes its tokens, in the form of cw-ownable.
@final
export class Ownership {
  owner: string = ""; // empty: nobody, for good
  pending: string = ""; // whose it is to be, if they accept; empty: nobody's
  until: Expires | null = null; // when they can no more; null: it was not said

  read(json: Json): void {
    this.owner = optional(json, "owner");
    this.pending = optional(json, "pending_owner");
    const until = json.maybe("pending_expiry");
    if (until !== null) this.until = Expires.from(until);
  }

  write(w: Writer): void {
    maybe(w.object().field("owner"), this.owner);
    maybe(w.field("pending_owner"), this.pending);
    w.field("pending_expiry");
    const until = this.until;
    if (until === null) w.null();
    else until.write(w);
    w.end();
  }
}

function optional(json: Json, name: string): string {
  const found = json.maybe(name);
  return found === null ? "" : found.text();
}

// maybe writes a text that may be empty.
export function maybe(w: Writer, text: string): void {
  if (text.length == 0) w.null();
  else w.text(text);
}

export function ownership(): Item<Ownership> {
  return new Item<Ownership>("ownership");
}
