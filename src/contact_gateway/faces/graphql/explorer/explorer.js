"use strict";

// Renders GraphiQL for POST /graphql. There is no build step.

// Relative to this page, which a proxy may serve below a prefix.
const ENDPOINT = "graphql";

const HEADERS = '{\n  "X-Api-Key": ""\n}';

// The document of the first tab. Every operation in it runs unchanged.
// Its lines fit the editor in a window 1400 pixels wide.
const MANUAL = `# contact-gateway explorer
#
# 1. Paste your API key between the quotes of X-Api-Key in
#    the Headers pane below. Reloading the page removes it.
# 2. Put the cursor into an operation and press Ctrl+Enter,
#    or choose one from the menu of the play button.
# 3. The book icon on the left opens the documentation.
#    Ctrl+Space in this editor completes names.

# Creates one contact. In the demo catalogue, 2001 is the CJ
# record of the advertiser with the HiEnergy record 1001.
mutation CreateContact {
  createContact(
    # Retries with the same key create no second contact:
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
    # Every error is an ApiError with a code.
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

# Applies the same rules, but creates nothing: dryRun
# returns the contact that would be created.
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

# The label and role of the API key.
query WhoAmI {
  viewer {
    label
    role
  }
}

# The first page of contacts. Filter them with advertiserId,
# email or q.
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
      hasNextPage
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
      hasNextPage
    }
  }
}
`;

// GraphiQL's menus and dialogs add a <style> element that stops the page from
// scrolling. The Content-Security-Policy blocks inline styles, and this page
// never scrolls, so replace that element with an inert one.
const createElement = document.createElement.bind(document);
document.createElement = (name, options) =>
  createElement(name === "style" ? "template" : name, options);

async function fetcher(params, { headers = {} } = {}) {
  // Leave out empty headers: an empty key would be an invalid one.
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
    throw new Error(`HTTP ${response.status}, not JSON: ${text.slice(0, 500)}`);
  }
}

ReactDOM.createRoot(document.getElementById("explorer")).render(
  React.createElement(GraphiQL, {
    fetcher,
    defaultTabs: [{ query: MANUAL, headers: HEADERS }],
    // For further tabs:
    defaultQuery: "# A new operation\n",
    defaultHeaders: HEADERS,
    defaultEditorToolsVisibility: "headers",
    // Write nothing to the browser's storage. shouldPersistHeaders alone is not
    // enough: GraphiQL's history stores the headers of each run, with the key.
    shouldPersistHeaders: false,
    storage: null,
  }),
);
