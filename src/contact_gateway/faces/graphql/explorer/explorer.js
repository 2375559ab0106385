"use strict";

// Renders GraphiQL for POST /graphql. There is no build step.

// Relative to this page, which a proxy may serve below a prefix.
const ENDPOINT = "graphql";

// The document of the first tab. Every operation in it runs unchanged.
// Its lines fit the editor in a window 1000 pixels wide.
const MANUAL = `# contact-gateway explorer
#
# 1. Paste an API key at the top
#    right. Reloading removes it.
# 2. Press the play button and choose
#    an operation, or put the cursor
#    into one and press Ctrl+Enter.
# 3. The book icon on the left opens
#    the documentation. Ctrl+Space
#    completes names.

# Creates the contact in the
# variables below. In the demo, 2001
# is a brand's record on CJ; its
# HiEnergy record is 1001.
mutation CreateContact(
  $input: CreateContactInput!
  # Makes retries safe; see the docs.
  $idempotencyKey: String
) {
  createContact(
    input: $input
    idempotencyKey: $idempotencyKey
  ) {
    __typename
    ... on Contact {
      id
      email
      name
      advertiserId
      advertiserName
      createdAt
    }
    # Every error is an ApiError.
    ... on ApiError {
      code
      message
      requestId
    }
    ... on InvalidInputError {
      problems {
        path
        code
        message
      }
    }
    ... on ConflictError {
      existing {
        id
        email
      }
    }
    ... on RateLimitedError {
      retryAfterSeconds
    }
  }
}

# Applies the same rules, and creates
# nothing.
mutation TryWithoutCreating(
  $input: CreateContactInput!
) {
  createContact(
    input: $input
    dryRun: true
  ) {
    __typename
    ... on ContactPreview {
      email
      name
      advertiser {
        id
        name
        networkName
      }
    }
    ... on ApiError {
      code
      message
      requestId
    }
    ... on InvalidInputError {
      problems {
        path
        code
        message
      }
    }
  }
}

# The label and role of the key.
query WhoAmI {
  viewer {
    label
    role
  }
}

# The first page of contacts. Filters
# are advertiserId, email and q.
query RecentContacts {
  contacts {
    nodes {
      id
      email
      name
      advertiserId
      advertiserName
      createdAt
    }
    pageInfo {
      currentPage
      nextPage
      hasNextPage
    }
  }
}

# Finds ids for createContact, with
# each brand's HiEnergy record and
# its equivalents on networks.
query FindAdvertisers(
  $search: String
) {
  advertisers(q: $search) {
    nodes {
      id
      name
      domain
      networkName
      status
      hienergy {
        id
        name
      }
      equivalents {
        id
        networkName
      }
    }
    pageInfo {
      currentPage
      nextPage
      hasNextPage
    }
  }
}
`;

const VARIABLES = {
  input: {
    advertiserId: "2001",
    // New on each load, so that a second visit is not a conflict.
    email: `maya.${Date.now().toString(36)}@example.com`,
    givenName: "Maya",
    familyName: "Lindqvist",
    jobTitle: "Partnerships Manager",
  },
  search: "northwind",
};

const FIRST_ANSWER = `Answers appear here.

Paste an API key at the top right, press the play button and choose \
CreateContact: it creates a contact and shows it. Run it again for a \
ConflictError: every outcome is a type of the schema.`;

// GraphiQL's menus and dialogs add a <style> element that stops the page from
// scrolling. The Content-Security-Policy blocks inline styles, and this page
// never scrolls, so replace that element with an inert one.
const createElement = document.createElement.bind(document);
document.createElement = (name, options) =>
  createElement(name === "style" ? "template" : name, options);

// Only in memory: closing or reloading the page removes it.
let apiKey = "";

async function fetcher(params, { headers } = {}) {
  const sent = new Headers(headers);
  // A key of the Headers pane wins. An empty one would be invalid.
  if (apiKey && !sent.has("X-Api-Key")) sent.set("X-Api-Key", apiKey);
  sent.set("Accept", "application/graphql-response+json, application/json");
  sent.set("Content-Type", "application/json");
  const response = await fetch(ENDPOINT, {
    method: "POST",
    headers: sent,
    body: JSON.stringify(params),
  });
  const text = await response.text();
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`HTTP ${response.status}, not JSON: ${text.slice(0, 500)}`);
  }
}

// GraphiQL shows it instead of its logo, beside the tabs.
const keyField = React.createElement(
  GraphiQL.Logo,
  null,
  React.createElement(
    "label",
    { className: "api-key" },
    "API key",
    // explorer.css hides the text. Browsers offer to store what is in a
    // password field.
    React.createElement("input", {
      type: "text",
      autoComplete: "off",
      autoFocus: true,
      spellCheck: false,
      placeholder: "Paste it here",
      onChange: (event) => {
        apiKey = event.target.value.trim();
      },
    }),
  ),
);

ReactDOM.createRoot(document.getElementById("explorer")).render(
  React.createElement(
    GraphiQL,
    {
      fetcher,
      // Of the first tab:
      query: MANUAL,
      variables: JSON.stringify(VARIABLES, null, 2),
      response: FIRST_ANSWER,
      // Of further tabs:
      defaultQuery: "# A new operation\n",
      defaultEditorToolsVisibility: "variables",
      // Write nothing to the browser's storage. shouldPersistHeaders alone is not
      // enough: GraphiQL's history stores the headers of each run.
      shouldPersistHeaders: false,
      storage: null,
    },
    keyField,
  ),
);
