// What a proxy stores.

import { Bytes, Env, Item, Json, Map, Query, Response, U128, Wasm, Writer, address } from "./kit";

export const nano: u64 = 1000000000;
const minGrace: u64 = 60; // seconds in which a decision can be carried out: without them none is ever, of new settings neither
const maxSeconds: u64 = 366 * 86400;

// Settings are who decides, and how long everybody has to look at it.
@final
export class Settings {
  governor: string = ""; // decides
  guardian: string = ""; // may cancel, and no more; empty: nobody
  delay: u64 = 0; // seconds from a decision until it can be carried out
  grace: u64 = 0; // seconds after that in which it can be

  read(json: Json): void {
    this.governor = address(json.field("governor").text());
    const guardian = json.maybe("guardian");
    if (guardian !== null) this.guardian = address(guardian.text());
    this.delay = json.field("delay").u64();
    this.grace = json.field("grace").u64();
    json.done();
    if (this.delay == 0 || this.delay > maxSeconds) throw new Error("a delay is from a second to a year");
    if (this.grace < minGrace || this.grace > maxSeconds) throw new Error("a time of grace is from a minute to a year");
  }

  write(w: Writer): void {
    w.object().field("governor").text(this.governor).field("guardian");
    maybe(w, this.guardian);
    w.field("delay").u64(this.delay).field("grace").u64(this.grace).end();
  }
}

// maybe writes a text that may be empty.
export function maybe(w: Writer, text: string): void {
  if (text.length == 0) w.null();
  else w.text(text);
}

// Code is code as everybody can check it: by SHA-256 of the module.
@final
export class Code {
  id: u64 = 0;
  checksum: string = "";

  // of asks the chain.
  static of(id: u64): Code {
    const code = new Code();
    code.id = id;
    code.checksum = Query.codeInfo(id).field("checksum").text();
    return code;
  }

  read(json: Json): void {
    this.id = json.field("code_id").u64();
    this.checksum = json.field("checksum").text();
  }

  write(w: Writer): void {
    w.object().field("code_id").u64(this.id).field("checksum").text(this.checksum).end();
  }
}

// governed returns the code that a contract has whose admin is this one.
export function governed(env: Env, target: string): u64 {
  const info = Query.contractInfo(target);
  const admin = info.maybe("admin");
  if (admin === null || admin.text() != env.contract()) throw new Error("the proxy is not its admin");
  return info.field("code_id").u64();
}

// Step is what is decided: {"migrate": …}, {"hand_over": …} or {"settings": …}.
@final
export class Step {
  kind: string = "";
  target: string = ""; // of migrate and hand_over
  from: Code = new Code(); // of migrate: what changes is what the two digests say
  to: Code = new Code();
  msg: Bytes = new Bytes(); // of migrate
  admin: string = ""; // of hand_over; empty: nobody ever
  settings: Settings = new Settings();

  // asked reads one as it is asked for.
  static asked(env: Env, json: Json): Step {
    const s = new Step();
    const v = json.variant();
    s.kind = v.name();
    if (v.named("settings")) {
      s.settings.read(v);
      return s;
    }
    if (!v.named("migrate") && !v.named("hand_over")) throw new Error("unknown step " + s.kind);
    s.target = address(v.field("target").text());
    const now = governed(env, s.target);
    if (v.named("hand_over")) {
      const admin = v.maybe("admin");
      if (admin !== null) s.admin = address(admin.text());
    } else {
      s.from = Code.of(now);
      s.to = Code.of(v.field("code_id").u64());
      s.msg = v.field("msg").bytes();
      if (s.from.checksum == s.to.checksum) throw new Error("it has that code already");
      Json.parse(s.msg);
    }
    v.done();
    return s;
  }

  read(json: Json): void {
    const v = json.variant();
    this.kind = v.name();
    if (v.named("settings")) return this.settings.read(v);
    this.target = v.field("target").text();
    if (v.named("hand_over")) {
      const admin = v.maybe("admin");
      if (admin !== null) this.admin = admin.text();
      return;
    }
    this.from.read(v.field("from"));
    this.to.read(v.field("to"));
    this.msg = v.field("msg").bytes();
  }

  write(w: Writer): void {
    w.object().field(this.kind);
    if (this.kind == "settings") this.settings.write(w);
    else {
      w.object().field("target").text(this.target);
      if (this.kind == "hand_over") maybe(w.field("admin"), this.admin);
      else {
        this.from.write(w.field("from"));
        this.to.write(w.field("to"));
        w.field("msg").binary(this.msg);
      }
      w.end();
    }
    w.end();
  }

  // done carries it out. What the target is by then must be what it was when everybody
  // began to look.
  done(env: Env, r: Response): Response {
    if (this.kind == "settings") {
      settings().save(this.settings);
      return r;
    }
    const now = governed(env, this.target);
    r.attribute("target", this.target);
    if (this.kind == "hand_over") return r.message(this.admin.length == 0 ? Wasm.clearAdmin(this.target) : Wasm.updateAdmin(this.target, this.admin));
    if (now != this.from.id) throw new Error("the target has other code by now");
    r.attribute("from", this.from.checksum).attribute("to", this.to.checksum);
    return r.message(Wasm.migrate(this.target, this.to.id, new Writer().json(this.msg)));
  }
}

// Decision is a step with its times, and what became of it.
@final
export class Decision {
  step: Step = new Step();
  note: string = ""; // where the sources are, and what they change
  ready: u64 = 0; // in nanoseconds
  over: u64 = 0;
  end: string = ""; // applied or cancelled; empty: neither

  read(json: Json): void {
    this.step.read(json.field("step"));
    this.note = json.field("note").text();
    this.ready = json.field("ready").u64Text();
    this.over = json.field("over").u64Text();
    this.end = json.field("end").text();
  }

  write(w: Writer): void {
    this.step.write(w.object().field("step"));
    w.field("note").text(this.note).field("ready").u64Text(this.ready).field("over").u64Text(this.over).field("end").text(this.end).end();
  }

  status(env: Env): string {
    if (this.end.length > 0) return this.end;
    if (env.time() >= this.over) return "over";
    return env.time() >= this.ready ? "ready" : "waiting";
  }
}

export function settings(): Item<Settings> {
  return new Item<Settings>("settings");
}

export function decisions(): Map<u64, Decision> {
  return new Map<u64, Decision>("decisions");
}

export function last(): Item<u64> {
  return new Item<u64>("decision_count");
}

// words writes a number for an attribute.
export function words(n: u64): string {
  return U128.of(n).toString();
}
