import { StrictMode } from "react";
import { createRoot } from "react-dom/client";

import { ContactForm } from "./ContactForm";
import "./styles.css";

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <main>
      <h1>Add a contact</h1>
      <p>A contact is a person at an advertiser.</p>
      <ContactForm />
    </main>
  </StrictMode>,
);
