export default {
  input: process.env.OPENAPI,
  output: { path: "build/client", importFileExtension: ".js" },
  plugins: ["@hey-api/client-fetch", "@hey-api/typescript", "@hey-api/sdk"],
};
