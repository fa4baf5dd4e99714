// An investor's contribution, by a client generated from /openapi.json: no `!`, no `as`, no `any` to read an answer.
import { setTimeout as sleep } from "node:timers/promises";

import { createClient } from "./build/client/client/index.js";
import { createInvestment, createTransaction, getOffering, getTransaction } from "./build/client/index.js";
import type { Transaction } from "./build/client/index.js";

const setting = (name: string): string => {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set`);
  return value;
};
const key = (): string => crypto.randomUUID();

const contribute = async (): Promise<Transaction> => {
  const client = createClient({ baseUrl: setting("BASE_URL"), auth: setting("TOKEN"), throwOnError: true });
  const { data: offering } = await getOffering({ client, path: { offeringId: setting("OFFERING_ID") }, throwOnError: true });
  const { data: investment } = await createInvestment({
    client,
    headers: { "Idempotency-Key": key() },
    body: {
      offeringId: offering.offeringId,
      termsEtag: offering.termsEtag,
      amount: { currencyCode: offering.targetAmount.currencyCode, amountMinor: "50000" },
    },
    throwOnError: true,
  });
  const { data: created, response } = await createTransaction({
    client,
    headers: { "Idempotency-Key": key() },
    body: {
      type: "ESCROW_DEPOSIT",
      paymentMethod: "ACH",
      amount: investment.amount,
      escrowAccountId: offering.escrowAccountId,
      bankAccountId: setting("BANK_ACCOUNT_ID"),
      investmentId: investment.investmentId,
    },
    throwOnError: true,
  });
  const location: string | null = response.headers.get("location");
  if (response.status !== 201 || location !== `/api/v1/transactions/${created.transactionId}`) throw new Error(`${location}`);
  let transaction = created;
  for (let attempt = 0; attempt < 200 && transaction.status !== "SETTLED"; attempt++) {
    await sleep(100);
    const path = { transactionId: created.transactionId };
    ({ data: transaction } = await getTransaction({ client, path, throwOnError: true }));
  }
  return transaction;
};

// What a service of tomorrow answers, to a client of today.
const readUnknown = async (): Promise<Transaction> => {
  const client = createClient({ baseUrl: setting("TOMORROW_URL"), throwOnError: true });
  const { data } = await getTransaction({ client, path: { transactionId: "txn_1" }, throwOnError: true });
  return data;
};

const transaction = await contribute();
const unknown = await readUnknown();
const settled: string = transaction.settleTime ?? "never";
const minor: bigint = BigInt(transaction.amount.amountMinor);
console.log(JSON.stringify({
  status: transaction.status,
  settled: settled !== "never",
  minor: `${minor}`,
  failed: transaction.failure !== undefined,
  unknown: unknown.status,
}));
