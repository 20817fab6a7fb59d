// What a multisig stores, in the form of cw3-fixed-multisig where that has it.

import { Bytes, Env, Item, Json, Map, U128, Writer } from "./kit";

export const nano: u64 = 1000000000;

// Rules are who has to agree, and how long it takes.
@final
export class Rules {
  need: u64 = 0; // weight that has to agree
  total: u64 = 0; // weight that there is
  period: u64 = 0; // seconds that a proposal is open for, at most
  delay: u64 = 0; // seconds from agreement until it can be executed
  era: u64 = 0; // how often members or rules were changed: a proposal is of one

  read(json: Json): void {
    this.need = json.field("need").u64();
    this.total = json.field("total").u64();
    this.period = json.field("period").u64();
    this.delay = json.field("delay").u64();
    this.era = json.field("era").u64();
  }

  write(w: Writer): void {
    w.object().field("need").u64(this.need).field("total").u64(this.total);
    w.field("period").u64(this.period).field("delay").u64(this.delay).field("era").u64(this.era).end();
  }

  // threshold writes what has to agree, as cw3 writes it.
  threshold(w: Writer): Writer {
    w.object().field("absolute_count").object().field("weight").u64(this.need);
    return w.field("total_weight").u64(this.total).end().end();
  }
}

// Proposal is messages that the multisig sends if enough agree.
@final
export class Proposal {
  title: string = "";
  description: string = "";
  proposer: string = "";
  msgs: Bytes = Bytes.of("[]"); // a list, as JSON
  expires: u64 = 0; // in nanoseconds
  agreed: u64 = 0; // when enough agreed, in nanoseconds; 0: not enough do
  yes: u64 = 0; // weight that agrees
  end: string = ""; // executed or rejected; empty: it is open
  era: u64 = 0;
  need: u64 = 0; // of its era
  total: u64 = 0;
  delay: u64 = 0;

  read(json: Json): void {
    this.title = json.field("title").text();
    this.description = json.field("description").text();
    this.proposer = json.field("proposer").text();
    this.msgs = json.field("msgs").raw();
    this.expires = json.field("expires").u64Text();
    this.agreed = json.field("agreed").u64Text();
    this.yes = json.field("yes").u64();
    this.end = json.field("end").text();
    this.era = json.field("era").u64();
    this.need = json.field("need").u64();
    this.total = json.field("total").u64();
    this.delay = json.field("delay").u64();
  }

  write(w: Writer): void {
    w.object().field("title").text(this.title).field("description").text(this.description).field("proposer").text(this.proposer);
    w.field("msgs").json(this.msgs).field("expires").u64Text(this.expires).field("agreed").u64Text(this.agreed);
    w.field("yes").u64(this.yes).field("end").text(this.end).field("era").u64(this.era);
    w.field("need").u64(this.need).field("total").u64(this.total).field("delay").u64(this.delay).end();
  }

  // count takes a weight to those who agree, or from them. Agreement that was lost and is
  // found again waits anew.
  count(env: Env, before: u64, now: u64): void {
    this.yes = this.yes - before + now;
    if (this.yes < this.need) this.agreed = 0;
    else if (this.agreed == 0) this.agreed = env.time();
  }

  // ready is when it can be executed, in nanoseconds, if enough agree.
  ready(): u64 {
    return this.agreed + this.delay * nano;
  }

  // over tells whether nothing can become of it any more.
  over(env: Env, era: u64): bool {
    return this.end.length > 0 || this.era != era || env.time() >= this.expires;
  }

  status(env: Env, era: u64): string {
    if (this.end.length > 0) return this.end;
    if (this.over(env, era)) return "rejected";
    return this.agreed > 0 ? "passed" : "open";
  }
}

// Ballot is what a member said of a proposal.
@final
export class Ballot {
  constructor(
    public vote: string = "",
    public weight: u64 = 0,
  ) {}

  read(json: Json): void {
    this.vote = json.field("vote").text();
    this.weight = json.field("weight").u64();
  }

  write(w: Writer): void {
    w.object().field("vote").text(this.vote).field("weight").u64(this.weight).end();
  }

  // counts is the weight with which it agrees.
  counts(): u64 {
    return this.vote == "yes" ? this.weight : 0;
  }
}

export function rules(): Item<Rules> {
  return new Item<Rules>("rules");
}

export function members(): Map<string, u64> {
  return new Map<string, u64>("voters");
}

export function proposals(): Map<u64, Proposal> {
  return new Map<u64, Proposal>("proposals");
}

export function ballots(proposal: u64): Map<string, Ballot> {
  return new Map<string, Ballot>("votes").under(proposal);
}

export function last(): Item<u64> {
  return new Item<u64>("proposal_count");
}

// words writes a number for an attribute.
export function words(n: u64): string {
  return U128.of(n).toString();
}
