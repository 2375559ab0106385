/** The keyboard, the screen reader, light and dark, and narrow screens. */

import { expect } from "@playwright/test";
import axe from "axe-core";

import { type Form, test } from "./fixtures.js";

/** Save a screenshot for the README, if SCREENSHOTS names a folder. */
async function capture({ page }: Form, name: string): Promise<void> {
  if (process.env.SCREENSHOTS) {
    await page.screenshot({ path: `${process.env.SCREENSHOTS}/${name}.png` });
  }
}

async function expectNoViolations({ page }: Form): Promise<void> {
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate<axe.AxeResults>("axe.run({ resultTypes: ['violations'] })");
  expect(violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)])).toEqual([]);
}

for (const colorScheme of ["light", "dark"] as const) {
  test(`it is accessible in ${colorScheme} colours`, async ({ form, gateway, page }) => {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width: 720, height: 940 });
    await form.open(gateway);
    await expectNoViolations(form);

    await form.advertiser.fill("northwind");
    await form.advertiser.press("ArrowDown");
    await expectNoViolations(form);
    await form.advertiser.press("Escape");
    await form.choose("kestrel", "Kestrel Audio Europe");
    await form.field("E-mail address").fill("maya@");
    await form.field("Given name").fill("Maya");
    await form.send.click();
    await expect(form.field("E-mail address")).toBeFocused();
    await expectNoViolations(form);
    await capture(form, `${colorScheme}-problem`);

    await form.field("E-mail address").fill(`${colorScheme}@example.com`);
    await form.send.click();
    await expect(form.message).toContainText("Contact added");
    await expectNoViolations(form);
    await form.field("E-mail address").fill(`${colorScheme}@example.com`);
    await form.send.click();
    await expect(form.message).toContainText("A contact with this address already exists");
    await expectNoViolations(form);
    await capture(form, `${colorScheme}-conflict`);
  });
}

test("the keyboard is enough", async ({ form, gateway, page }) => {
  await form.open(gateway);
  const press = async (...keys: string[]) => {
    for (const key of keys) {
      await page.keyboard.press(key);
    }
  };
  // React may render after the page's load event.
  await expect(form.advertiser).toBeVisible();
  await press("Tab");
  await expect(form.advertiser).toBeFocused();
  await page.keyboard.type("solstice");
  await expect(form.record).toHaveText("2 found.");
  await expect(form.advertiser).toHaveAttribute("aria-expanded", "true");
  await press("ArrowDown", "ArrowDown");
  const id = await form.advertiser.getAttribute("aria-activedescendant");
  await expect(page.locator(`[id="${id}"]`)).toHaveAttribute("aria-selected", "true");
  await press("Enter");
  await expect(form.options).toHaveCount(0);
  await expect(form.record).toContainText("The contact will be added to Café Solstice, HiEnergy record 1003");
  await press("Tab");
  await page.keyboard.type("keyboard@example.com");
  await press("Enter");

  await expect(form.message).toBeFocused();
  await expect(form.message).toHaveAccessibleName("Contact added");
  await expect(form.message).toHaveAccessibleDescription(/keyboard@example.com/);
  await press("Tab");
  await expect(form.send).toBeFocused();
});

test("a lookup without a result says so, and a changed text deselects the advertiser", async ({ form, gateway }) => {
  await form.open(gateway);
  await form.advertiser.fill("nobody");
  await expect(form.record).toHaveText("No advertiser has this name or domain.");
  await form.choose("northwind", "Northwind Outfitters (UK)");
  await form.advertiser.press("End");
  await form.advertiser.press("Backspace");
  await expect(form.record).toHaveText("1 found.");
  await expect(form.advertiser).toHaveValue("Northwind Outfitters (UK");
  await expect(form.options).toHaveText([/Northwind Outfitters \(UK\)/]);
});

test("a narrow screen has no sideways scrolling", async ({ form, gateway, page }) => {
  await page.setViewportSize({ width: 320, height: 640 });
  await form.open(gateway);
  await form.fill("narrow@example.com");
  await form.send.click();
  await expect(form.message).toContainText("Contact added");

  expect(await page.evaluate("document.documentElement.scrollWidth")).toBe(320);
  await capture(form, "narrow");
});
