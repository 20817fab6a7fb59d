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
  if ((l.kind == "svg" && !isXML(l.data)) || (l.kind == "png" && !isPNG(l.data))) throw new Error("the logo is not what it says");
  logo().save(l);
}

// isXML tells whether a text begins with a declaration of XML: all up to its first >.
function isXML(text: Bytes): bool {
  let end: usize = 0;
  while (end < text.length && text.byte(end) != 0x3e) end++;
  const begin = Bytes.of("<?xml ");
  return end > begin.length && end < text.length && text.slice(0, begin.length).equals(begin) && text.byte(end - 1) == 0x3f;
}

// isPNG tells whether a picture begins as PNG does (RFC 2083 §3.1).
function isPNG(picture: Bytes): bool {
  return picture.length >= 8 && picture.slice(0, 8).number<u64>() == 0x89504e470d0a1a0a;
}
