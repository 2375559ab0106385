/** What the server keeps from browsers, and from pages of other sites. */

import { expect } from "@playwright/test";

import { test } from "./fixtures.js";
import { startForm } from "./programs.js";

test("the API key is in nothing that the browser gets", async ({ form, gateway, page }) => {
  const bodies: Promise<string>[] = [];
  page.on("response", (response) => {
    bodies.push(Promise.all([response.text(), response.allHeaders()]).then((parts) => JSON.stringify(parts)));
  });
  await form.open(gateway);
  await form.fill("secret@example.com");
  await form.send.click();
  await expect(form.message).toContainText("Contact added");

  const everything = await Promise.all(bodies);
  expect(everything.length).toBeGreaterThanOrEqual(5);
  expect(everything.join("")).not.toContain(gateway.adminKey);
  expect(everything[0]).toContain("default-src 'self'");
});

for (const path of ["contact", "advertisers"]) {
  test(`a page of another site cannot post to /api/${path}`, async ({ form, gateway, request }) => {
    await form.open(gateway);
    for (const origin of [undefined, "null", "http://127.0.0.1:1", "https://evil.example"]) {
      const response = await request.post(`${form.url}/api/${path}`, {
        headers: origin === undefined ? {} : { Origin: origin },
        data: { q: "kestrel" },
      });
      expect(response.status()).toBe(403);
    }
  });
}

test("a body that is not the page's is refused", async ({ form, gateway, request }) => {
  await form.open(gateway);
  const post = async (data: string) =>
    (
      await request.post(`${form.url}/api/contact`, {
        headers: { "Origin": form.url, "Content-Type": "application/json" },
        data: Buffer.from(data),
      })
    ).status();

  expect(await post("{")).toBe(400);
  expect(await post("null")).toBe(400);
  expect(await post(`"${"a".repeat(20_000)}"`)).toBe(413);
});

for (const [name, url, key] of [
  ["CONTACT_GATEWAY", "", "cgw_key"],
  ["API_KEY", "http://127.0.0.1:8000", ""],
] as const) {
  test(`a missing ${name} stops the start`, async () => {
    await expect(startForm(url, key, 0)).rejects.toThrow(`Set ${name}: `);
  });
}
