import { createContact, getContact } from "./generated";
import { client } from "./generated/client.gen";

client.setConfig({ baseUrl: `${process.env["CONTACT_GATEWAY"]}/api/v1` });

export async function create(email: string, key: string, dryRun: boolean) {
  const { data, error } = await createContact({
    auth: key,
    body: { contact: { advertiser_id: 2001, email } },
    query: { dry_run: dryRun },
  });
  return data ? { id: data.data.id } : { error: error.error };
}

export type CreateContactError = NonNullable<Awaited<ReturnType<typeof create>>["error"]>;

export async function read(id: string, key: string) {
  const { data, error } = await getContact({ auth: key, path: { id } });
  if (!data) throw new Error(error.error.message);
  return { id: data.data.id, email: data.data.attributes.email };
}
