"use strict";

// Draws GraphiQL for POST /graphql. No build step: edit this file as it is.

const ENDPOINT = "/graphql";

const HEADERS = '{\n  "X-Api-Key": ""\n}';

// The manual is the document of the first tab. Every operation runs as it is.
// Its lines fit the pane of a window that is 1400 pixels wide.
const MANUAL = `# contact-gateway explorer
#
# 1. Paste your API key between the quotes of X-Api-Key in
#    the Headers pane below. Only this page keeps it, until
#    you reload or close it.
# 2. Put the cursor into an operation and press Ctrl+Enter,
#    or choose one from the menu of the play button.
# 3. The book icon on the left opens the documentation.
#    Ctrl+Space in this editor offers the names that fit.

# Creates one contact. In the demo catalogue, 2001 is the CJ
# record of the advertiser with the HiEnergy record 1001.
mutation CreateContact {
  createContact(
    # A retry with the same key creates no second one:
    # idempotencyKey: "import-42-row-7"
    input: {
      advertiserId: "2001"
      email: "maya@example.com"
      givenName: "Maya"
      familyName: "Lindqvist"
      jobTitle: "Partnerships Manager"
    }
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
    # Everything that can go wrong is an ApiError with a code.
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

# The same checks, but nothing is created: dryRun answers
# with the contact as it would be.
mutation TryWithoutCreating {
  createContact(
    dryRun: true
    input: {
      advertiserId: "2001"
      email: "noor@example.com"
      givenName: "Noor"
      familyName: "Haddad"
    }
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

# Which key is this, and what may it do?
query WhoAmI {
  viewer {
    label
    role
  }
}

# The first page of contacts. The arguments advertiserId,
# email and q narrow it.
query RecentContacts {
  contacts(page: 1, perPage: 10) {
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
      hasMore
    }
  }
}

# Finds the advertiser id that createContact needs. hienergy
# is the HiEnergy record of a network record; equivalents are
# the other records of the same advertiser.
query FindAdvertisers {
  advertisers(q: "northwind", perPage: 10) {
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
      nextPage
      hasMore
    }
  }
}
`;

// The menus and dialogs of GraphiQL add a <style> element that stops the page
// from scrolling. The Content-Security-Policy refuses inline styles, and this
// page never scrolls, so an inert element takes its place.
const createElement = document.createElement.bind(document);
document.createElement = (name, options) =>
  createElement(name === "style" ? "template" : name, options);

async function fetcher(params, { headers = {} } = {}) {
  // A header that is still empty is not sent: no key is not a wrong key.
  const filled = Object.entries(headers).filter(([, value]) => value !== "");
  const response = await fetch(ENDPOINT, {
    method: "POST",
    headers: {
      ...Object.fromEntries(filled),
      Accept: "application/graphql-response+json, application/json",
      "Content-Type": "application/json",
    },
    body: JSON.stringify(params),
  });
  const text = await response.text();
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`HTTP ${response.status}, no JSON: ${text.slice(0, 500)}`);
  }
}

ReactDOM.createRoot(document.getElementById("explorer")).render(
  React.createElement(GraphiQL, {
    fetcher,
    defaultTabs: [{ query: MANUAL, headers: HEADERS }],
    // For the tabs that the user adds:
    defaultQuery: "# A new operation\n",
    defaultHeaders: HEADERS,
    defaultEditorToolsVisibility: "headers",
    // Nothing is written to the browser's storage. shouldPersistHeaders is not
    // enough: GraphiQL's history keeps the headers, and so the key, of each run.
    shouldPersistHeaders: false,
    storage: null,
  }),
);
