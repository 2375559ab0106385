/** What the tests share: the gateways of a run, and the page of one test. */

import { test as base, type Locator, type Page } from "@playwright/test";

import { Connection, freePort, type Gateway, startForm, startGateway } from "./programs.js";

/** A gateway in front of HiEnergy, for which another gateway stands, and the connection between the two. */
interface InFront {
  gateway: Gateway;
  connection: Connection;
}

export class Form {
  readonly advertiser: Locator;
  readonly options: Locator;
  readonly record: Locator;
  readonly message: Locator;
  readonly send: Locator;
  #stop = async () => {};
  #port = 0;

  constructor(readonly page: Page) {
    this.advertiser = page.getByRole("combobox", { name: "Advertiser" });
    this.options = page.getByRole("option");
    this.record = page.getByRole("status");
    this.message = page.getByRole("group");
    this.send = page.getByRole("button");
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Serve the form for a gateway, and open it. */
  async open({ url, adminKey }: { url: string; adminKey: string }): Promise<void> {
    this.#port = await freePort();
    await this.serve(url, adminKey);
    await this.page.goto(this.url);
  }

  /** Serve the form with this key and these settings from now on. The page stays open. */
  async serve(gatewayUrl: string, key: string, settings = {}): Promise<void> {
    await this.#stop();
    this.#stop = (await startForm(gatewayUrl, key, this.#port, settings)).stop;
  }

  async stop(): Promise<void> {
    await this.#stop();
  }

  field(label: string): Locator {
    return this.page.getByLabel(label);
  }

  /** Look an advertiser up, and choose the option with this text. */
  async choose(query: string, option: string): Promise<void> {
    await this.advertiser.fill(query);
    await this.options.filter({ hasText: option }).click();
  }

  /** Fill in what is needed, for an advertiser of the demo's catalogue. */
  async fill(email: string): Promise<void> {
    await this.choose("northwind", "Northwind Outfitters (US)");
    await this.field("E-mail address").fill(email);
  }

  /** Return the idempotency keys of the submissions from now on. */
  submittedKeys(): string[] {
    const keys: string[] = [];
    this.page.on("request", (request) => {
      if (request.url().endsWith("/api/contact")) {
        keys.push(request.postDataJSON().idempotencyKey);
      }
    });
    return keys;
  }
}

export const test = base.extend<{ form: Form }, { gateway: Gateway; inFront: InFront }>({
  gateway: [
    async ({}, use) => {
      // All requests come from one address.
      const gateway = await startGateway({ CONTACT_GATEWAY_KEY_GUESSES_PER_MINUTE: "0" });
      await use(gateway);
      await gateway.stop();
    },
    { scope: "worker", timeout: 300_000 },
  ],

  inFront: [
    async ({ gateway: hienergy }, use) => {
      const connection = await Connection.to(hienergy.url);
      const gateway = await startGateway({}, { url: connection.url, gateway: hienergy });
      await use({ gateway, connection });
      await gateway.stop();
      await connection.close();
    },
    { scope: "worker", timeout: 300_000 },
  ],

  form: async ({ page }, use) => {
    const form = new Form(page);
    await use(form);
    await form.stop();
  },
});
