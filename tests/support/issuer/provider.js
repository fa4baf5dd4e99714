// An OpenID provider for tests: https://github.com/panva/node-oidc-provider, certified by the OpenID Foundation.
// Its endpoints, tokens and key set are its own; said here is what any operator says: clients, people, the API that
// tokens are for, and which claims go into them.
//
// node provider.js '{"port": 0, "keys": [<private JWKs>], "people": {…}, "strongLevel": "…"}' prints its name.

import { createServer } from "node:http";
import { text } from "node:stream/consumers";
import { Provider } from "oidc-provider";

const { port, keys, people, strongLevel } = JSON.parse(process.argv[2]);
const API = "https://api.realco.example";
const CLIENT = "console";
const LIFETIME_SECONDS = 3600;

const server = createServer((request, response) => answer(request, response));
await new Promise((listening) => server.listen(port, "127.0.0.1", listening));
const name = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(name, {
  jwks: { keys },
  clients: [
    {
      client_id: CLIENT,
      token_endpoint_auth_method: "none",
      redirect_uris: ["https://console.realco.example/signed-in"],
    },
  ],
  acrValues: [strongLevel],
  ttl: { AccessToken: LIFETIME_SECONDS, IdToken: LIFETIME_SECONDS, Grant: LIFETIME_SECONDS, Session: LIFETIME_SECONDS },
  cookies: { keys: ["of a test"] },
  features: {
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => API,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope: "finance",
        audience: API,
        accessTokenFormat: "jwt",
        jwt: { sign: { alg: "RS256" } },
      }),
    },
  },
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  findAccount: (_, accountId) => ({ accountId, claims: () => ({ sub: accountId }) }),
  // How somebody signed in, as the provider keeps it with the code; of its own it says that in ID tokens alone.
  extraTokenClaims: (context, token) => {
    const { amr, acr, authTime } = context.oidc.entities.AuthorizationCode;
    return { ...people[token.accountId].claims, amr, acr, auth_time: authTime };
  },
  // Nobody is asked what the client may do: it is the operator's own.
  loadExistingGrant: async (context) => {
    const grant = new provider.Grant({ clientId: CLIENT, accountId: context.oidc.session.accountId });
    grant.addOIDCScope("openid");
    grant.addResourceScope(API, "finance");
    await grant.save();
    return grant;
  },
});
const callback = provider.callback();

async function answer(request, response) {
  if (!request.url.startsWith("/interaction/")) return callback(request, response);
  const { params } = await provider.interactionDetails(request, response);
  const wantsStrong = (params.acr_values ?? "").split(" ").includes(strongLevel);
  const form = new URLSearchParams(await text(request));
  const person = people[form.get("login")];
  if (person?.password !== form.get("password") || (wantsStrong && person.otp !== form.get("otp"))) {
    response.writeHead(401).end();
    return undefined;
  }
  const login = { accountId: form.get("login"), amr: wantsStrong ? ["pwd", "otp", "mfa"] : ["pwd"] };
  if (wantsStrong) login.acr = strongLevel;
  return provider.interactionFinished(request, response, { login });
}

console.log(name);
