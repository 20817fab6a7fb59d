// A token's logo: {"url": "…"}, or {"embedded": {"svg": "…"}} and {"embedded": {"png": "…"}} with
// the picture in base64.

import { Bytes, Item, Json, Writer } from "./kit";

const maxBytes: usize = 5 << 10;

export class Logo {
  kind: string = "url"; // or svg, png
  url: string = "";
  data: Bytes = new Bytes();

  read(json: Json): void {
    const v = json.variant();
    if (v.named("url")) this.url = v.text();
    else if (v.named("embedded")) {
      const picture = v.variant();
      this.kind = picture.name();
      if (this.kind != "svg" && this.kind != "png") throw new Error("a logo is svg or png");
      this.data = picture.bytes();
    } else throw new Error("a logo is a url or embedded");
  }

  write(w: Writer): void {
    w.object();
    if (this.kind == "url") w.field("url").text(this.url);
    else w.field("embedded").object().field(this.kind).binary(this.data).end();
    w.end();
  }
}

export function logo(): Item<Logo> {
  return new Item<Logo>("logo");
}

// keepLogo stores a logo that looks like one.
export function keepLogo(json: Json): void {
  const l = new Logo();
  l.read(json);
  if (l.data.length > maxBytes) throw new Error("a logo has 5 KiB at most");
  const head = Bytes.of(l.kind == "svg" ? "<?xml " : "PNG");
  const at: usize = l.kind == "svg" ? 0 : 1;
  if (l.kind != "url" && (l.data.length < at + head.length || !l.data.slice(at, at + head.length).equals(head))) throw new Error("the logo is not what it says");
  logo().save(l);
}
