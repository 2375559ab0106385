import { type CreateContactSubmission, createContact, getContact } from "./generated/client";
import { CreateContactBody, GetContactResponse } from "./schemas";

export async function create(email: string, key: string, dryRun: boolean) {
  const contact = { advertiser_id: 2001, email };
  // Zod's schemas check more than the types do, such as the form of an e-mail address.
  const checked = CreateContactBody.safeParse({ contact });
  const body: CreateContactSubmission = checked.success ? checked.data : { contact };
  const answer = await createContact(body, { dry_run: dryRun }, { headers: { "X-Api-Key": key } });
  switch (answer.status) {
    case 200:
      return { id: answer.data.data.id };
    case 201: {
      const id: string = answer.data.data.id;
      return { id };
    }
    default:
      return { error: answer.data.error };
  }
}

export type CreateContactError = NonNullable<Awaited<ReturnType<typeof create>>["error"]>;

export async function read(id: string, key: string) {
  const answer = await getContact(id, { headers: { "X-Api-Key": key } });
  if (answer.status !== 200) throw new Error(answer.data.error.message);
  const { data } = GetContactResponse.parse(answer.data);
  return { id: data.id, email: data.attributes.email };
}
