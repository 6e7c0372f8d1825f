import { defineConfig, type Plugin } from "vite";

/**
 * What strangers write is shown on this page, so nothing but its own code may run, whatever slips through elsewhere.
 * Only in the built page: the development server needs to inject code of its own.
 */
const contentSecurityPolicy: Plugin = {
  name: "content-security-policy",
  apply: "build",
  transformIndexHtml: () => [
    {
      tag: "meta",
      attrs: {
        "http-equiv": "Content-Security-Policy",
        // 'wasm-unsafe-eval' permits compiling WebAssembly and nothing else; peers may be at any WebSocket address.
        content:
          "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data:; " +
          "connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'",
      },
      injectTo: "head-prepend",
    },
  ],
};

export default defineConfig({
  base: "./",
  plugins: [contentSecurityPolicy],
  build: { target: "es2022" },
  server: {
    // A node that runs beside the development server says how to join.
    proxy: { "/bootstrap.json": "http://127.0.0.1:8080" },
  },
});
