"""The tables transactions owns. No other service reads them."""

from services.transactions.tables import ach as ach
from services.transactions.tables import exceptions as exceptions
from services.transactions.tables import plaid as plaid
from services.transactions.tables import sweeps as sweeps
from services.transactions.tables import vault_keys as vault_keys
from services.transactions.tables.bank_accounts import bank_accounts as bank_accounts
from services.transactions.tables.metadata import metadata as metadata
from services.transactions.tables.provider_payments import provider_payments as provider_payments
from services.transactions.tables.transactions import KEEPS_REFERENCE as KEEPS_REFERENCE
from services.transactions.tables.transactions import MAY_COME_BACK as MAY_COME_BACK
from services.transactions.tables.transactions import PLAIN_REFERENCE as PLAIN_REFERENCE
from services.transactions.tables.transactions import payout_requests as payout_requests
from services.transactions.tables.transactions import transaction_history as transaction_history
from services.transactions.tables.transactions import transactions as transactions
from services.transactions.tables.verifications import bank_account_verifications as bank_account_verifications
from services.transactions.tables.webhooks import webhooks as webhooks
