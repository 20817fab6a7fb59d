// What a token stores, under the keys and in the form of cw20-base.

import { Expires, Item, Json, Map, U128, Writer } from "./kit";

// Minter is who may make tokens, and up to how many there may be.
export class Minter {
  minter: string = "";
  cap: U128 = U128.max(); // the most there is: no cap

  read(json: Json): void {
    this.minter = json.field("minter").text();
    const cap = json.maybe("cap");
    if (cap !== null) this.cap = cap.u128();
    json.done();
  }

  write(w: Writer): void {
    w.object().field("minter").text(this.minter).field("cap");
    if (this.cap == U128.max()) w.null();
    else w.u128(this.cap);
    w.end();
  }
}

export class Token {
  name: string = "";
  symbol: string = "";
  decimals: u32 = 0;
  supply: U128 = new U128();
  mint: Minter | null = null;

  read(json: Json): void {
    this.name = json.field("name").text();
    this.symbol = json.field("symbol").text();
    this.decimals = json.field("decimals").u32();
    this.supply = json.field("total_supply").u128();
    const mint = json.maybe("mint");
    if (mint !== null) {
      const minter = new Minter();
      minter.read(mint);
      this.mint = minter;
    }
  }

  // fields writes what anybody is told.
  fields(w: Writer): Writer {
    w.object().field("name").text(this.name).field("symbol").text(this.symbol);
    return w.field("decimals").u64(this.decimals).field("total_supply").u128(this.supply);
  }

  write(w: Writer): void {
    this.fields(w).field("mint");
    const mint = this.mint;
    if (mint === null) w.null();
    else mint.write(w);
    w.end();
  }
}

// Allowance is what somebody else may take, and until when.
export class Allowance {
  amount: U128 = new U128();
  expires: Expires = new Expires();

  read(json: Json): void {
    this.amount = json.field("allowance").u128();
    this.expires.read(json.field("expires"));
  }

  fields(w: Writer): void {
    w.field("allowance").u128(this.amount).field("expires");
    this.expires.write(w);
  }

  write(w: Writer): void {
    this.fields(w.object());
    w.end();
  }
}

export function token(): Item<Token> {
  return new Item<Token>("token_info");
}

export function balances(): Map<string, U128> {
  return new Map<string, U128>("balance");
}

// allowances are by spender, grants the same by owner.
export function allowances(owner: string): Map<string, Allowance> {
  return new Map<string, Allowance>("allowance").under(owner);
}

export function grants(spender: string): Map<string, Allowance> {
  return new Map<string, Allowance>("allowance_spender").under(spender);
}

// Marketing is what a token is presented with. A logo is the JSON that it was given as.
export class Marketing {
  project: string = "";
  description: string = "";
  marketing: string = ""; // who may change it; empty: nobody

  read(json: Json): void {
    this.project = optional(json, "project", "");
    this.description = optional(json, "description", "");
    this.marketing = optional(json, "marketing", "");
  }

  fields(w: Writer): void {
    w.object().field("project");
    text(w, this.project);
    w.field("description");
    text(w, this.description);
  }

  write(w: Writer): void {
    this.fields(w);
    w.field("marketing");
    text(w, this.marketing);
    w.end();
  }
}

// optional reads a text that may be left out; one of nothing but spaces is empty.
export function optional(json: Json, name: string, otherwise: string): string {
  const found = json.maybe(name);
  if (found === null) return otherwise;
  const text = found.text();
  for (let i = 0; i < text.length; i++) {
    if (text.charCodeAt(i) > 0x20) return text;
  }
  return "";
}

// text writes one that may be empty.
export function text(w: Writer, s: string): void {
  if (s.length == 0) w.null();
  else w.text(s);
}

export function marketing(): Item<Marketing> {
  return new Item<Marketing>("marketing_info");
}
