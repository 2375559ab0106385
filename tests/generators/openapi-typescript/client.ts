import createClient from "openapi-fetch";
import type { paths } from "./generated/schema";

const client = createClient<paths>({ baseUrl: `${process.env["CONTACT_GATEWAY"]}/api/v1` });

export async function create(email: string, key: string, dryRun: boolean) {
  const { data, error } = await client.POST("/contacts", {
    body: { contact: { advertiser_id: 2001, email } },
    params: { query: { dry_run: dryRun } },
    headers: { "X-Api-Key": key },
  });
  return data ? { id: data.data.id } : { error: error.error };
}

export type CreateContactError = NonNullable<Awaited<ReturnType<typeof create>>["error"]>;

export async function read(id: string, key: string) {
  const { data, error } = await client.GET("/contacts/{id}", {
    params: { path: { id } },
    headers: { "X-Api-Key": key },
  });
  if (error) throw new Error(error.error.message);
  return { id: data.data.id, email: data.data.attributes.email };
}
