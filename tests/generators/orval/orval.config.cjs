const input = "../openapi.json";

module.exports = {
  client: {
    input,
    output: {
      target: "generated/client.ts",
      client: "fetch",
      baseUrl: `${process.env.CONTACT_GATEWAY}/api/v1`,
    },
  },
  schemas: { input, output: { target: "generated/schemas.ts", client: "zod" } },
};
