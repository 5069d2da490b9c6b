-- migrate:up
-- What is: receipts as they came, the newest of each share, and the acts that wait for the ledger. Every council service may
-- insert into audit.pending; nothing else of this schema is written from outside. Applied before the publisher's migrations.
CREATE SCHEMA audit;

CREATE TABLE audit.pending (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    act text NOT NULL,
    actor text NOT NULL,
    la_code text,
    plan_id uuid,
    version_id uuid,
    share_id uuid,
    seq bigint,
    details jsonb NOT NULL DEFAULT '{}'
);
-- Appended to, never changed: signed is the receipt byte for byte, the other columns are what it says. status and satisfies are
-- what audit made of it when it came: a conflict where the council had not given that instruction; strong enough for the
-- channel and for the wish of that moment.
CREATE TABLE audit.receipt (
    share_id uuid NOT NULL,
    number bigint NOT NULL,
    la_code text NOT NULL,
    seq bigint NOT NULL,
    subscriber text NOT NULL,
    status text NOT NULL,
    satisfies boolean NOT NULL,
    version_id uuid,
    sha256 text,
    record text,
    reason text,
    next_try_at timestamptz,
    at timestamptz NOT NULL,
    signed bytea NOT NULL,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (share_id, number)
);
-- What the receipts of a share say together, whatever order they came in.
-- satisfied_seq is the greatest seq that a receipt satisfied; it falls back when a newer receipt for it says otherwise, and
-- then lost is true until a greater seq is satisfied: filed, then found missing.
-- held_… is what the recipient holds as far as receipts tell; it may be an older version than the one wanted.
CREATE TABLE audit.newest (
    share_id uuid PRIMARY KEY,
    la_code text NOT NULL,
    seq bigint NOT NULL,
    number bigint NOT NULL,
    status text NOT NULL,
    version_id uuid,
    sha256 text,
    record text,
    reason text,
    next_try_at timestamptz,
    at timestamptz NOT NULL,
    satisfied_seq bigint NOT NULL DEFAULT 0,
    lost boolean NOT NULL DEFAULT false,
    held_version_id uuid,
    held_status text,
    held_record text,
    held_at timestamptz
);
-- For those who look only at trouble: their cost is what is wrong, not what exists.
CREATE INDEX newest_refused ON audit.newest (share_id) WHERE status = 'refused';
CREATE INDEX newest_lost ON audit.newest (share_id) WHERE lost;
CREATE INDEX newest_conflict ON audit.newest (share_id) WHERE status = 'conflict';

CREATE TABLE audit.dead_letter (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    partition integer NOT NULL,
    "offset" bigint NOT NULL,
    key bytea NOT NULL,
    value bytea NOT NULL,
    headers jsonb NOT NULL,
    reason text NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);
-- A record comes again after a crash and is one dead letter; a broker that was wiped counts from 0 again and is another.
CREATE UNIQUE INDEX dead_letter_origin ON audit.dead_letter (topic, partition, "offset", md5(value));

CREATE TABLE audit.heartbeat (
    subscriber text PRIMARY KEY,
    last_seen timestamptz NOT NULL
);

CREATE FUNCTION audit.my_councils() RETURNS text[] LANGUAGE sql STABLE
    AS $$ SELECT string_to_array(coalesce(current_setting('ehcp.councils', true), ''), ',') $$;
ALTER TABLE audit.newest ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_councils ON audit.newest USING (la_code = ANY (audit.my_councils()));
ALTER TABLE audit.receipt ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_councils ON audit.receipt USING (la_code = ANY (audit.my_councils()));

DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'audit_views') THEN CREATE ROLE audit_views NOLOGIN; END IF;
END $$;
GRANT audit_views TO CURRENT_USER;
GRANT USAGE ON SCHEMA audit TO audit_views, :role, ehcp_publisher, notifier;
GRANT SELECT ON audit.newest, audit.heartbeat TO audit_views;
GRANT SELECT, INSERT ON audit.receipt, audit.pending, audit.dead_letter TO :role;
GRANT SELECT, INSERT, UPDATE ON audit.newest, audit.heartbeat TO :role;
GRANT INSERT ON audit.pending TO ehcp_publisher, notifier;
CREATE VIEW audit.v_newest AS SELECT * FROM audit.newest;
CREATE VIEW audit.v_heartbeat AS SELECT subscriber, last_seen FROM audit.heartbeat;
GRANT CREATE ON SCHEMA audit TO audit_views;
ALTER VIEW audit.v_newest OWNER TO audit_views;
ALTER VIEW audit.v_heartbeat OWNER TO audit_views;
REVOKE CREATE ON SCHEMA audit FROM audit_views;
GRANT SELECT ON audit.v_newest, audit.v_heartbeat TO ehcp_publisher, notifier;
GRANT EXECUTE ON FUNCTION audit.my_councils() TO audit_views, ehcp_publisher, notifier;

-- migrate:down
DROP SCHEMA audit CASCADE;
