// What the escrow stores.

import { Item, Json, Map, U128, Writer } from "./kit";

// Deal is what a client and a worker have agreed on, and the money that is held for it.
@final
export class Deal {
  client: string = "";
  worker: string = "";
  arbiter: string = "";
  denom: string = "";
  fee: U128 = new U128(); // of the arbiter, for each decision
  review: u64 = 0; // seconds that the client has to look at what was submitted
  arbitration: u64 = 0; // seconds that the arbiter has to decide
  unjudged: u32 = 0; // percent that the worker gets if the arbiter does not
  accepted: bool = false;
  count: u32 = 0; // of milestones
  held: U128 = new U128();

  read(json: Json): void {
    this.client = json.field("client").text();
    this.worker = json.field("worker").text();
    this.arbiter = json.field("arbiter").text();
    this.denom = json.field("denom").text();
    this.fee = json.field("fee").u128();
    this.review = json.field("review_seconds").u64();
    this.arbitration = json.field("arbitration_seconds").u64();
    this.unjudged = json.field("unjudged_percent").u32();
    this.accepted = json.field("accepted").bool();
    this.count = json.field("count").u32();
    this.held = json.field("held").u128();
  }

  // fields writes all of them into an object that is open.
  fields(w: Writer): void {
    w.field("client").text(this.client).field("worker").text(this.worker).field("arbiter").text(this.arbiter);
    w.field("denom").text(this.denom).field("fee").u128(this.fee);
    w.field("review_seconds").u64(this.review).field("arbitration_seconds").u64(this.arbitration);
    w.field("unjudged_percent").u64(this.unjudged).field("accepted").bool(this.accepted);
    w.field("count").u64(this.count).field("held").u128(this.held);
  }

  write(w: Writer): void {
    this.fields(w.object());
    w.end();
  }
}

// Milestone is a part of the work, and what is paid for it. Its stage is open, submitted or
// disputed while its money is held, and paid, returned or decided after that.
@final
export class Milestone {
  title: string = "";
  amount: U128 = new U128();
  due: u64 = 0; // seconds since 1970: until then it is to be submitted
  order: string = ""; // whose verified result pays it; none: no order's does
  stage: string = "open";
  since: u64 = 0; // when it came to be submitted or disputed
  note: string = ""; // that was said with the last step
  paid: U128 = new U128(); // to the worker

  read(json: Json): void {
    this.title = json.field("title").text();
    this.amount = json.field("amount").u128();
    this.due = json.field("due").u64();
    const order = json.maybe("order");
    if (order !== null) this.order = order.text();
    this.stage = json.field("stage").text();
    this.since = json.field("since").u64();
    this.note = json.field("note").text();
    this.paid = json.field("paid").u128();
  }

  write(w: Writer): void {
    w.object().field("title").text(this.title).field("amount").u128(this.amount).field("due").u64(this.due).field("order");
    if (this.order.length == 0) w.null();
    else w.text(this.order);
    w.field("stage").text(this.stage).field("since").u64(this.since).field("note").text(this.note);
    w.field("paid").u128(this.paid).end();
  }

  // held tells whether its money is.
  held(): bool {
    return this.stage == "open" || this.stage == "submitted" || this.stage == "disputed";
  }
}

// last is the number of the last deal there was.
export function last(): Item<u64> {
  return new Item<u64>("last");
}

export function deals(): Map<u64, Deal> {
  return new Map<u64, Deal>("deals");
}

export function milestones(deal: u64): Map<u32, Milestone> {
  return new Map<u32, Milestone>("milestones").under(deal);
}

// dealsOf are the deals that somebody has a part in, for lists.
export function dealsOf(party: string): Map<u64, bool> {
  return new Map<u64, bool>("deals__party").under(party);
}

// orders are those that a client's milestones name: for each a milestone that is held, or was paid or decided.
export function orders(client: string): Map<string, bool> {
  return new Map<string, bool>("orders").under(client);
}

// held is the money of all deals, by its token.
export function held(): Map<string, U128> {
  return new Map<string, U128>("held");
}
