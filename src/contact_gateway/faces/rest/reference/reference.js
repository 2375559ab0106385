"use strict";

// Renders the OpenAPI document with Redoc. There is no build step.

const FONTS = {
  fontFamily: "system-ui, sans-serif",
  headings: { fontFamily: "system-ui, sans-serif" },
};
const MONOSPACE = "ui-monospace, monospace";
const LIGHT = {
  typography: { ...FONTS, code: { fontFamily: MONOSPACE } },
};
const DARK = {
  colors: {
    primary: { main: "#8ab4f8" },
    success: { main: "#6cc574" },
    error: { main: "#ff8a80" },
    text: { primary: "#d7dce2", secondary: "#a4adb8" },
    gray: { 50: "#1d2126", 100: "#23282e" },
    border: { dark: "rgba(255, 255, 255, 0.15)", light: "#2c3138" },
    responses: { info: { color: "#7cc7e8" } },
  },
  schema: { nestedBackground: "#1d2126" },
  sidebar: {
    backgroundColor: "#1d2126",
    textColor: "#d7dce2",
    groupItems: { activeBackgroundColor: "#2c3138" },
    level1Items: { activeBackgroundColor: "#2c3138" },
  },
  rightPanel: {
    backgroundColor: "#1d2126",
    servers: {
      overlay: { backgroundColor: "#2c3138", textColor: "#d7dce2" },
      url: { backgroundColor: "#16191d" },
    },
  },
  typography: {
    ...FONTS,
    code: {
      fontFamily: MONOSPACE,
      color: "#ffb4a9",
      backgroundColor: "rgba(255, 255, 255, 0.08)",
    },
  },
};

// Redoc shows a logo from another host, which the Content-Security-Policy
// blocks. Nothing else on the page is an image, so make images inert.
const createElement = document.createElement.bind(document);
document.createElement = (name, options) =>
  createElement(name === "img" ? "span" : name, options);

const dark = matchMedia("(prefers-color-scheme: dark)");
// Redoc has no way to change the theme of a page that it has rendered.
dark.addEventListener("change", () => location.reload());

Redoc.init(
  // Relative to this page, which a proxy may serve below a prefix.
  "api/v1/schema",
  {
    theme: dark.matches ? DARK : LIGHT,
    // The search needs a worker from a blob.
    disableSearch: true,
    hideFab: true,
    hideSchemaPattern: true,
    sortRequiredPropsFirst: true,
  },
  document.getElementById("reference"),
);
