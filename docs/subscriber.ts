// Prints ledger postings, from the first on: `node docs/subscriber.ts nats://subscriber:PASSWORD@HOST:PORT KEYS`.
import { createPublicKey, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { createFileRegistry, fromBinary, toJsonString } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { AckPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect, type MsgHdrs, nanos, nuid } from "@nats-io/transport-node";

const SUBJECT = "realco.escrow.v1.JournalEntriesPosted.*.>"; // of one organization: …JournalEntriesPosted.acme.>
const contracts = readFileSync(new URL("../protos/realco/descriptors.binpb", import.meta.url));
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, contracts));
const posted = registry.getMessage("realco.escrow.v1.JournalEntriesPosted");
if (posted === undefined) throw new Error("these are other contracts");
const seen = new Set<string>();

const { keys } = JSON.parse(readFileSync(process.argv[3] ?? "", "utf8"));

/** Throws unless the escrow service told this event. */
function checkSignature(message: { subject: string; data: Uint8Array; headers?: MsgHdrs }) {
  const [keyId = "", signature = ""] = (message.headers?.get("realco-signature") ?? "").split(" ");
  const jwk = keys.find(({ kid }: { kid: string }) => kid === keyId);
  if (jwk === undefined || !keyId.startsWith("escrow:")) throw new Error(`${keyId} is no key of the escrow service`);
  const head = `realco-event\n${message.subject}\n${message.headers?.get("ce-id")}\n`;
  const signed = Buffer.concat([Buffer.from(head), message.data]);
  const key = createPublicKey({ key: jwk, format: "jwk" });
  if (!verify(null, signed, key, Buffer.from(signature, "base64url"))) throw new Error("wrong signature");
}

const { host, username, password } = new URL(process.argv[2] ?? "");
const inboxPrefix = `_INBOX_${username}`;
const client = await connect({ servers: host, user: username, pass: password, inboxPrefix, maxReconnectAttempts: -1 });
const { name } = await (await jetstreamManager(client)).consumers.add("ESCROW", {
  name: nuid.next(),
  filter_subject: SUBJECT,
  ack_policy: AckPolicy.Explicit,
  inactive_threshold: nanos(3_600_000), // that long the server remembers us while we are away
});
const consumer = await jetstream(client).consumers.get("ESCROW", name);
for await (const message of await consumer.consume()) {
  checkSignature(message);
  const id = message.headers?.get("ce-id") ?? "";
  if (!seen.has(id)) { // delivery is at least once
    seen.add(id);
    console.log(message.headers?.get("ce-time"), toJsonString(posted, fromBinary(posted, message.data), { registry }));
  }
  message.ack();
}
