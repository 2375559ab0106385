export { CreateContactBody, GetContactResponse } from "./generated/schemas";
