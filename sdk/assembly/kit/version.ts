// What a contract is, under the key where CosmWasm's contracts say so (cw2).

import { Item } from "./storage";
import { Json, Writer } from "./json";

@final
class Version {
  constructor(
    private contract: string = "",
    private number: string = "",
  ) {}

  read(json: Json): void {
    this.contract = json.field("contract").text();
    this.number = json.field("version").text();
  }

  write(w: Writer): void {
    w.object().field("contract").text(this.contract).field("version").text(this.number).end();
  }
}

// version says which contract this is, for those who migrate it and look at it.
export function version(contract: string, number: string): void {
  new Item<Version>("contract_info").save(new Version(contract, number));
}
