export {
  createContactBody as CreateContactBody,
  getContactResponse as GetContactResponse,
} from "./generated/schemas";
