"""Statements that nobody who signs in as a service gets through, in any database; each with the code of the refusal.

42501 is a right that the role lacks, or history that is only added to; 23514 a rule that a trigger or a CHECK holds.
"""

from __future__ import annotations

# Refused in every database, to both roles of a service.
EVERYWHERE = {
    # the schema
    "a new table": "CREATE TABLE side_book (id int)",
    "a temporary table": "CREATE TEMP TABLE outbox (id int)",
    "a temporary table by another spelling": "SELECT 1 AS id INTO TEMP side_book",
    "a new schema": "CREATE SCHEMA beside",
    "a new function": "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "a new view": "CREATE VIEW v AS SELECT 1",
    "a new index": "CREATE INDEX ON handled_events (consumer)",
    "a new trigger": "CREATE TRIGGER t BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION realco_refuse()",
    "a new rule": "CREATE RULE r AS ON INSERT TO outbox DO INSTEAD NOTHING",
    "a new extension": "CREATE EXTENSION dblink",
    "a new publication": "CREATE PUBLICATION p FOR TABLE outbox",
    "a new column": "ALTER TABLE outbox ADD COLUMN x int",
    "a dropped table": "DROP TABLE handled_events",
    "a dropped trigger": "DROP TRIGGER refuse_early ON outbox",
    "a disabled trigger": "ALTER TABLE outbox DISABLE TRIGGER ALL",
    "a function replaced": "CREATE OR REPLACE FUNCTION realco_refuse() RETURNS trigger LANGUAGE plpgsql"
    " AS 'BEGIN RETURN NEW; END'",
    "a function without its search path": "ALTER FUNCTION realco_refuse() RESET search_path",
    "a comment that says another schema": "COMMENT ON TABLE alembic_version IS 'compatible_with: 0000'",
    "an owner's lock": "LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE",
    # the wall between organizations
    "row security switched off": "ALTER TABLE outbox DISABLE ROW LEVEL SECURITY",
    "row security not forced": "ALTER TABLE outbox NO FORCE ROW LEVEL SECURITY",
    "a dropped policy": "DROP POLICY organization ON outbox",
    "a policy for all": "CREATE POLICY all_of_them ON outbox USING (true)",
    "row security left out": "SET row_security = off; DELETE FROM handled_requests",
    # roles
    "triggers switched off": "SET session_replication_role = 'replica'",
    "the owner's role": "SET ROLE {owner}",
    "the other role": "SET ROLE {other}",
    "the superuser's session": "SET SESSION AUTHORIZATION postgres",
    "a role that passes row security": "ALTER ROLE {role} BYPASSRLS",
    "a role that is superuser": "ALTER ROLE {role} SUPERUSER",
    "another role's password": "ALTER ROLE {other} PASSWORD 'x'",
    "a new role": "CREATE ROLE stranger",
    "a membership": "GRANT {owner} TO {role}",
    "another owner": "ALTER TABLE outbox OWNER TO {role}",
    # the server and its machine
    "a setting of the server": "ALTER SYSTEM SET fsync = off",
    "a setting of the database": "ALTER DATABASE {database} SET synchronous_commit = off",
    "a new database": "CREATE DATABASE beside",
    "a program run": "COPY (SELECT 1) TO PROGRAM 'cat'",
    "a file written": "COPY (SELECT 1) TO '/tmp/realco_illegal'",
    "a file read": "SELECT pg_read_file('postgresql.conf')",
    "a large object from a file": "SELECT lo_import('/etc/hostname')",
    "a large object": "SELECT lo_create(0)",
    "what a transaction sees, for another to go on with": "SELECT pg_export_snapshot()",
    "a message in the log of transactions": "SELECT pg_logical_emit_message(false, 'x', 'x')",
    "a program": "DO $$ BEGIN RAISE LOG 'x'; END $$",
    "a lock that outlasts its transaction": "SELECT pg_advisory_lock(1)",
    "a lock of two numbers that outlasts it": "SELECT pg_try_advisory_lock_shared(1, 2)",
    "a session ended": "SELECT pg_terminate_backend(pg_backend_pid() + 1)",
    "a statement ended": "SELECT pg_cancel_backend(pg_backend_pid() + 1)",
    "a large object by its old name": "SELECT lo_creat(-1)",
    "a large object of bytes": "SELECT lo_from_bytea(0, 'x')",
    "another's statements": "SELECT rolpassword FROM pg_authid",
    "a server's reload": "SELECT pg_reload_conf()",
    # what every service keeps
    "a truncated outbox": "TRUNCATE outbox",
    "an edited event": "UPDATE outbox SET payload = ''",
    "an event of another aggregate": "UPDATE outbox SET aggregate_id = 'x'",
    "an event that is not published yet forgotten": "DELETE FROM outbox",
    "numbers drawn anew": "SELECT setval('outbox_id_seq', 1)",
    "an aggregate renamed": "UPDATE aggregate_versions SET aggregate_id = 'x'",
    "an aggregate forgotten": "DELETE FROM aggregate_versions",
    "another request under a key": "UPDATE handled_requests SET fingerprint = ''",
    "another caller of a request": "UPDATE handled_requests SET principal = 'x'",
    "an answer forgotten early": "DELETE FROM handled_requests",
    "an event handled again": "DELETE FROM handled_events",
    "an event handled by another": "UPDATE handled_events SET consumer = 'x'",
    "an event handled at another time": "INSERT INTO handled_events (created_at) VALUES (now())",
    "truncated answers": "TRUNCATE handled_requests",
    "another content of an approval": "UPDATE approvals SET content = 'x'",
    "another hash of an approval": "UPDATE approvals SET content_hash = 'x'",
    "another effect of an approval": "UPDATE approvals SET effect_hash = 'x'",
    "an approval asked for by another etag": "UPDATE approvals SET asked_etag = 'x'",
    "another form of an approval, asked for anew": "UPDATE approvals SET anew_hash = 'x'",
    "another matter of an approval": "UPDATE approvals SET matter_hash = 'x'",
    "another maker of an approval": "UPDATE approvals SET makers = ARRAY['x']",
    "another amount of an approval": "UPDATE approvals SET amount_minor = 1",
    "an approval of another kind": "UPDATE approvals SET kind = 'x'",
    "an approval about something else": "UPDATE approvals SET resource_id = 'x'",
    "an approval that lasts longer": "UPDATE approvals SET expires_at = now()",
    "an approval forgotten": "DELETE FROM approvals",
    "what one person stopped, forgotten": "DELETE FROM stops",
    "what one person stopped, at another time": "UPDATE stops SET stopped_at = now()",
    "another life of the database": "UPDATE incarnation SET incarnation = gen_random_uuid()",
    "a second life of the database": "INSERT INTO incarnation DEFAULT VALUES",
    "the test clock allowed": "UPDATE test_clock SET allowed = true",
    "the test clock allowed besides": "INSERT INTO test_clock VALUES (false, true)",
    "no word about the test clock": "DELETE FROM test_clock",
    "no check of the time": "CREATE OR REPLACE FUNCTION realco_check_time(timestamptz) RETURNS void LANGUAGE sql"
    " AS 'SELECT'",
    "another schema": "UPDATE alembic_version SET version_num = '0000'",
    "no schema": "DELETE FROM alembic_version",
}
# Refused to the role of requests alone.
OF_REQUESTS = {
    "events read": "SELECT * FROM outbox",
    "an event marked": "UPDATE outbox SET published_at = now()",
    "the leader": "SELECT * FROM leaders",
    "the temporary files of all": "SELECT pg_ls_tmpdir()",
    "another leader": "INSERT INTO leaders VALUES ('relay', gen_random_uuid(), now())",
    "an event of another organization": "INSERT INTO outbox (org_id, event_id, event_type, aggregate_id,"
    " aggregate_version, scope, payload, occurred_at) VALUES ('org_2', gen_random_uuid(), 'x', 'x', 1, '_', '', now())",
    "an aggregate of another organization": "INSERT INTO aggregate_versions VALUES ('org_2', 'x', 1)",
    "an event handled for another organization": "INSERT INTO handled_events (org_id, consumer, event_id, incarnation)"
    " VALUES ('org_2', 'x', gen_random_uuid(), '')",
    "a request of another organization": "INSERT INTO handled_requests (org_id, principal, idempotency_key,"
    " fingerprint, status) VALUES ('org_2', 'x', 'x', '', 'running')",
    "a row of all organizations": "SELECT set_config('app.org_id', '*', true);"
    " INSERT INTO aggregate_versions VALUES ('org_2', 'x', 1)",
}
# Tables of which rows are removed all the same: drafts are calculated anew, refusals forgotten.
REMOVED_FROM = {"allocations", "refused_postings"}
