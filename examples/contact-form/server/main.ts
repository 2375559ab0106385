/** Serve the page, and call the gateway with the API key that the browser must not have. */

import { serve } from "@hono/node-server";
import { serveStatic } from "@hono/node-server/serve-static";
import { Hono } from "hono";
import { bodyLimit } from "hono/body-limit";
import { HTTPException } from "hono/http-exception";
import { secureHeaders } from "hono/secure-headers";

import type { Submission } from "./answers.js";
import { Gateway } from "./gateway.js";

const { CONTACT_GATEWAY = "", API_KEY = "", HOST = "127.0.0.1", PORT = "3000", ORIGINS } = process.env;
for (const [name, isSet] of [
  ["CONTACT_GATEWAY", URL.canParse(CONTACT_GATEWAY)],
  ["API_KEY", API_KEY !== ""],
] as const) {
  if (!isSet) {
    console.error(`Set ${name}: export CONTACT_GATEWAY=http://127.0.0.1:8000 API_KEY=cgw_…`);
    process.exit(1);
  }
}

const gateway = new Gateway(CONTACT_GATEWAY, API_KEY);
const origins = ORIGINS?.split(/\s*,\s*/) ?? [`http://127.0.0.1:${PORT}`, `http://localhost:${PORT}`];

const app = new Hono();

app.use(
  secureHeaders({
    // The proxy that has the certificate decides this.
    strictTransportSecurity: false,
    contentSecurityPolicy: {
      defaultSrc: ["'self'"],
      imgSrc: ["'self'", "data:"],
      objectSrc: ["'none'"],
      baseUri: ["'none'"],
      formAction: ["'self'"],
      frameAncestors: ["'none'"],
    },
  }),
);

// Browsers name the page's origin in every POST, so pages of other sites cannot use this server's key (CSRF).
// The lookup is a POST too, for the same check.
app.use("/api/*", async (context, next) => {
  const origin = context.req.header("Origin");
  if (!origin || !origins.includes(origin)) {
    console.error(`Refused a POST from the origin ${origin}. ORIGINS has ${origins}`);
    return context.text("This origin is not allowed.", 403);
  }
  return next();
});
app.use("/api/*", bodyLimit({ maxSize: 16 * 1024 }));

// The gateway validates what the page sends: this server has no rules.
app.post("/api/advertisers", async (context) => {
  const { q } = await context.req.json<{ q: string }>();
  return context.json(await gateway.lookUp(q));
});

app.post("/api/contact", async (context) => {
  const submission = await context.req.json<Submission>();
  return context.json(await gateway.submit(submission));
});

app.use(serveStatic({ root: "dist/page" }));

app.onError((error, context) => {
  if (error instanceof HTTPException) {
    return error.getResponse();
  }
  console.error(error);
  // The body is not JSON, or has another shape than the page sends.
  const isUnreadable = error instanceof SyntaxError || error instanceof TypeError;
  return context.text(isUnreadable ? "Bad request" : "Server error", isUnreadable ? 400 : 500);
});

const server = serve({ fetch: app.fetch, hostname: HOST, port: Number(PORT) }, () => {
  console.log(`Contact form: ${origins[0]}`);
});
process.on("SIGTERM", () => server.close());
