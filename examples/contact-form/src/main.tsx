import { StrictMode } from "react";
import { createRoot } from "react-dom/client";

import { ContactForm } from "./ContactForm";
import "./styles.css";

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <main>
      <h1>Add a contact</h1>
      <p>A person at an advertiser that your team can write to.</p>
      <ContactForm />
    </main>
  </StrictMode>,
);
