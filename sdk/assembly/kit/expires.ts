// When something ends, as CosmWasm's contracts write it: {"at_height": 5},
// {"at_time": "1700000000000000000"} or {"never": {}}.

import { Env } from "./chain";
import { Json, Writer } from "./json";

@final
export class Expires {
  private height: u64 = 0; // 0: not by height
  private time: u64 = 0; // 0: not by time

  static never(): Expires {
    return new Expires();
  }

  // from reads a field that may be left out: never.
  static from(json: Json | null): Expires {
    const e = new Expires();
    if (json !== null) e.read(json);
    return e;
  }

  read(json: Json): void {
    const v = json.variant();
    if (v.named("at_height")) this.height = v.u64();
    else if (v.named("at_time")) this.time = v.u64Text();
    else if (v.named("never")) return v.done();
    else throw new Error("unknown expiration " + v.name());
    if (this.height == 0 && this.time == 0) throw new Error("an expiration at 0");
  }

  write(w: Writer): void {
    w.object();
    if (this.height != 0) w.field("at_height").u64(this.height);
    else if (this.time != 0) w.field("at_time").u64Text(this.time);
    else w.field("never").object().end();
    w.end();
  }

  // toString is how it is told in attributes.
  toString(): string {
    if (this.height != 0) return "expiration height: " + this.height.toString();
    if (this.time == 0) return "expiration: never";
    const rest = (1000000000 + (this.time % 1000000000)).toString().slice(1);
    return "expiration time: " + (this.time / 1000000000).toString() + "." + rest;
  }

  // passed tells whether it is over.
  passed(env: Env): bool {
    if (this.height != 0) return env.height() >= this.height;
    return this.time != 0 && env.time() >= this.time;
  }
}
