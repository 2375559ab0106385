/** Each outcome, by a person's clicks, against real gateways. */

import { expect } from "@playwright/test";

import { test } from "./fixtures.js";
import { Connection, startGateway } from "./programs.js";

test("a contact is created on the HiEnergy record that was shown", async ({ form, gateway }) => {
  await form.open(gateway);
  await form.choose("northwind", "Northwind Outfitters (US)");
  await expect(form.record).toHaveText(
    "The contact will be added to Northwind Outfitters, HiEnergy record 1001, which owns this CJ record.",
  );
  await form.field("E-mail address").fill("maya@example.com");
  await form.field("Given name").fill("Maya");
  await form.field("Family name").fill("Lindqvist");
  await form.send.click();

  await expect(form.message).toContainText("Contact added");
  await expect(form.message).toContainText("Maya Lindqvist (maya@example.com) at Northwind Outfitters.");
  await expect(form.message).toBeFocused();
  await expect(form.field("E-mail address")).toHaveValue("");
  await expect(form.advertiser).toHaveValue("Northwind Outfitters (US)");
});

test("a conflict shows the existing contact", async ({ form, gateway }) => {
  await form.open(gateway);
  const keys = form.submittedKeys();
  for (const title of ["Contact added", "A contact with this address already exists"]) {
    await form.fill("conflict@example.com");
    await form.field("Given name").fill("Noor");
    await form.send.click();
    await expect(form.message).toContainText(title);
    await expect(form.message).toContainText("Noor (conflict@example.com) at Northwind Outfitters.");
  }
  await expect(form.message).toBeFocused();
  // The first one was used up by its success.
  expect(new Set(keys).size).toBe(2);
});

test("each problem is beside its field, and the first has the focus", async ({ form, gateway }) => {
  await form.open(gateway);
  await form.field("LinkedIn profile").fill("maya");
  await form.send.click();

  await expect(form.message).toContainText("Please check the form");
  await expect(form.advertiser).toBeFocused();
  await expect(form.advertiser).toHaveAccessibleDescription(/choose an advertiser from the list/);
  await expect(form.field("E-mail address")).toHaveAccessibleDescription("A value is required.");
  await expect(form.field("LinkedIn profile")).toHaveAccessibleDescription(/http/);
  await expect(form.field("Given name")).not.toHaveAttribute("aria-invalid");

  await form.fill("problems@example.com");
  await expect(form.advertiser).not.toHaveAttribute("aria-invalid");
  await form.send.click();
  await expect(form.field("LinkedIn profile")).toBeFocused();
  await expect(form.field("E-mail address")).not.toHaveAttribute("aria-invalid");
});

test("an advertiser without a HiEnergy record is refused", async ({ form, gateway }) => {
  await form.open(gateway);
  await form.choose("unlisted", "Unlisted Goods");
  await expect(form.record).toContainText("No HiEnergy record is known for Unlisted Goods.");
  await form.field("E-mail address").fill("unlisted@example.com");
  await form.send.click();

  await expect(form.message).toContainText("This advertiser cannot have contacts");
});

test("a key that may not create contacts shows a form that is not set up", async ({ form, gateway }) => {
  await form.open({ url: gateway.url, adminKey: gateway.memberKey });
  await form.fill("member@example.com");
  await form.send.click();

  await expect(form.message).toContainText("This form is not set up");
});

test("a key that stops working shows a form that is not set up", async ({ form, gateway }) => {
  await form.open(gateway);
  await form.fill("revoked@example.com");
  await form.serve(gateway.url, "cgw_revoked");
  await form.send.click();
  await expect(form.message).toContainText("This form is not set up");

  await form.advertiser.fill("kestrel");
  await expect(form.record).toContainText("This form is not set up.");
});

test("a page at an unknown origin shows a form that is not set up", async ({ form, gateway }) => {
  await form.open(gateway);
  await form.fill("origin@example.com");
  await form.serve(gateway.url, gateway.adminKey, { ORIGINS: "https://a.example, https://b.example" });
  await form.send.click();

  await expect(form.message).toContainText("This form is not set up");
});

test("an address that is not a gateway shows a form that is not set up", async ({ form, gateway }) => {
  await form.open({ url: `${gateway.url}/nowhere`, adminKey: gateway.adminKey });
  await form.advertiser.fill("kestrel");

  await expect(form.record).toContainText("This form is not set up.");
});

test("the rate limit is shown with the wait", async ({ form }) => {
  const gateway = await startGateway({ CONTACT_GATEWAY_RATE_LIMIT_PER_HOUR: "1" });
  await form.open(gateway);
  await form.fill("limited@example.com");
  await form.send.click();
  await expect(form.message).toContainText(/Too many requests.*Try again in \d\d minutes\./);

  await form.advertiser.fill("kestrel");
  await expect(form.record).toContainText(/Too many requests.*Try again in \d\d minutes\./);
  await gateway.stop();
});

test("an unknown outcome is checked again with the same key, also after a reload", async ({
  form,
  gateway,
  inFront,
}) => {
  await form.open(inFront.gateway);
  const keys = form.submittedKeys();
  await form.fill("unknown@example.com");
  inFront.connection.losesNextCreation = true;
  await form.send.click();
  await expect(form.message).toContainText("HiEnergy has not confirmed the contact");
  await expect(form.message).toContainText(/Check again in \d+ (second|minute)s/);
  await expect(form.send).toHaveText("Check again");

  await form.page.reload();
  await expect(form.field("E-mail address")).toHaveValue("unknown@example.com");
  await expect(form.record).toContainText("HiEnergy record 1001");
  await form.send.click();

  await expect(form.message).toContainText("Contact added");
  expect(keys).toEqual([keys[0], keys[0]]);
  expect(await gateway.count("unknown@example.com")).toBe(1);
});

test("HiEnergy is down, and up again", async ({ form, inFront }) => {
  await form.open(inFront.gateway);
  await form.fill("down@example.com");
  await inFront.connection.close();
  await form.send.click();
  await expect(form.message).toContainText("The service does not answer");

  await inFront.connection.open();
  await expect(async () => {
    await form.send.click();
    await expect(form.message).toContainText("Contact added", { timeout: 2000 });
  }).toPass();
});

test("the gateway's answer is lost, and a retry creates no second contact", async ({ form, gateway }) => {
  const connection = await Connection.to(gateway.url);
  await form.open({ url: connection.url, adminKey: gateway.adminKey });
  await form.fill("lost@example.com");
  connection.losesNextCreation = true;
  await form.send.click();
  await expect(form.message).toContainText("The service does not answer");
  expect(await gateway.count("lost@example.com")).toBe(1);

  await expect(form.send).toHaveText("Try again");
  await form.send.click();
  await expect(form.message).toContainText("Contact added");
  expect(await gateway.count("lost@example.com")).toBe(1);
  await connection.close();
});

test("the gateway is down", async ({ form, gateway }) => {
  const connection = await Connection.to(gateway.url);
  await form.open({ url: connection.url, adminKey: gateway.adminKey });
  await form.fill("gateway-down@example.com");
  await connection.close();
  await form.send.click();
  await expect(form.message).toContainText("The service does not answer");

  await form.advertiser.fill("kestrel");
  await expect(form.record).toContainText("The service does not answer.");
});

test("an idempotency key that was used for other details is replaced", async ({ form, gateway }) => {
  const connection = await Connection.to(gateway.url);
  await form.open({ url: connection.url, adminKey: gateway.adminKey });
  const keys = form.submittedKeys();
  await form.fill("reused@example.com");
  await connection.close();
  await form.send.click();
  await expect(form.message).toContainText("The service does not answer");

  // Another program uses the key meanwhile.
  await fetch(`${gateway.url}/api/v1/contacts`, {
    method: "POST",
    headers: {
      "X-Api-Key": gateway.adminKey,
      "Content-Type": "application/json",
      "Idempotency-Key": keys[0]!,
    },
    body: JSON.stringify({ contact: { advertiser_id: 1002, email: "other@example.com" } }),
  });
  await connection.open();
  await form.send.click();
  await expect(form.message).toContainText("This form was sent before, with other details");

  await expect(form.send).toHaveText("Add as a new contact");
  await form.send.click();
  await expect(form.message).toContainText("Contact added");
  expect(keys[1]).toBe(keys[0]);
  expect(keys[2]).not.toBe(keys[0]);
  await connection.close();
});

test("there is no network", async ({ form, gateway, context }) => {
  await form.open(gateway);
  await form.fill("offline@example.com");
  await context.setOffline(true);
  await form.send.click();
  await expect(form.message).toContainText("No connection");
  await expect(form.message).toContainText("The same contact is never added twice.");

  await context.setOffline(false);
  await form.send.click();
  await expect(form.message).toContainText("Contact added");
});

test("a changed input has another key, and a restored one its own", async ({ form, gateway, context }) => {
  await form.open(gateway);
  const keys = form.submittedKeys();
  await form.fill("first@example.com");
  await context.setOffline(true);
  await form.send.click();
  await expect(form.message).toContainText("No connection");
  await form.field("E-mail address").fill("changed@example.com");
  await expect(form.send).toHaveText("Add contact");
  await form.field("E-mail address").fill("first@example.com");
  await expect(form.send).toHaveText("Try again");
  await form.send.click();
  await expect(form.send).toHaveText("Try again");
  await form.field("E-mail address").fill("second@example.com");
  await context.setOffline(false);
  await form.send.click();
  await expect(form.message).toContainText("Contact added");

  expect(keys[1]).toBe(keys[0]);
  expect(keys[2]).not.toBe(keys[0]);
});
