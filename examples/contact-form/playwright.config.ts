import { existsSync } from "node:fs";

import { defineConfig } from "@playwright/test";

// Debian's browser, if it is there: otherwise `npx playwright install chromium` downloads one.
const { CHROMIUM = "/usr/bin/chromium" } = process.env;

export default defineConfig({
  testDir: "e2e",
  workers: 1,
  timeout: 300_000,
  expect: { timeout: 100_000 },
  reporter: "list",
  maxFailures: 3,
  forbidOnly: true,
  use: {
    launchOptions: {
      executablePath: existsSync(CHROMIUM) ? CHROMIUM : undefined,
      args: ["--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
    },
  },
});
