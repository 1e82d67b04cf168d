// Few files, no inlined assets, nothing a strict Content-Security-Policy (`default-src 'self'`) would refuse.
import { defineConfig } from "vite";

export default defineConfig({
  base: "./", // relative, so that the page also works below a path prefix of a reverse proxy
  build: {
    target: ["chrome123", "firefox128", "safari17.5"], // the first that know `light-dark()`
    assetsInlineLimit: 0, // data: URLs would need a wider policy
    modulePreload: false,
    cssCodeSplit: false,
    reportCompressedSize: true,
  },
});
