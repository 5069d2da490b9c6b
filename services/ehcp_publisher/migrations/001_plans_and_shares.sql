-- migrate:up
-- What should be: councils, plans, versions, and for every recipient what it should hold. Row-level security compares every
-- la_code with the list of councils set for the transaction. Sealed columns hold zstd + AES-256-GCM, which does not compress:
-- STORAGE EXTERNAL spares the attempt.
CREATE SCHEMA publisher;

CREATE FUNCTION publisher.my_councils() RETURNS text[] LANGUAGE sql STABLE
    AS $$ SELECT string_to_array(coalesce(current_setting('ehcp.councils', true), ''), ',') $$;

CREATE TABLE publisher.council (
    la_code text PRIMARY KEY CHECK (la_code ~ '^[0-9]{3}$'),
    name text NOT NULL,
    ods_code text NOT NULL,
    wrapped_key bytea NOT NULL
);
CREATE TABLE publisher.client (
    client_id text PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('case_system', 'operator', 'subscriber')),
    la_codes text[] NOT NULL DEFAULT '{}',
    subscriber text,
    public_key jsonb NOT NULL,
    disabled_at timestamptz
);
CREATE TABLE publisher.assertion (
    client_id text NOT NULL,
    jti text NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (client_id, jti)
);
CREATE INDEX assertion_expires ON publisher.assertion (expires_at);
CREATE TABLE publisher.subscriber (
    subscriber text PRIMARY KEY,
    name text NOT NULL,
    hosted_by text NOT NULL CHECK (hosted_by IN ('agency', 'council')),
    receipt_key jsonb NOT NULL
);

CREATE TABLE publisher.child (
    child_id uuid PRIMARY KEY,
    la_code text NOT NULL REFERENCES publisher.council,
    wrapped_key bytea NOT NULL,
    identity bytea NOT NULL,
    nhs_lookup bytea,
    upn_lookup bytea
);
CREATE INDEX child_nhs ON publisher.child (nhs_lookup) WHERE nhs_lookup IS NOT NULL;
CREATE INDEX child_upn ON publisher.child (upn_lookup) WHERE upn_lookup IS NOT NULL;

CREATE TABLE publisher.plan (
    plan_id uuid PRIMARY KEY,
    la_code text NOT NULL REFERENCES publisher.council,
    case_reference text NOT NULL,
    child_id uuid NOT NULL REFERENCES publisher.child,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (la_code, case_reference)
);
CREATE TABLE publisher.version (
    version_id uuid PRIMARY KEY,
    plan_id uuid NOT NULL REFERENCES publisher.plan,
    la_code text NOT NULL,
    number integer NOT NULL CHECK (number > 0),
    issued_on date NOT NULL,
    text_hash text NOT NULL,
    section_hashes jsonb NOT NULL,
    body bytea NOT NULL,
    issued_by text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (plan_id, number)
);
ALTER TABLE publisher.version ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE TABLE publisher.rendering (
    rendering_id uuid PRIMARY KEY,
    version_id uuid NOT NULL REFERENCES publisher.version,
    la_code text NOT NULL,
    sections text NOT NULL,
    sha256 text NOT NULL,
    manifest jsonb NOT NULL,
    document bytea,
    size bigint NOT NULL,
    UNIQUE (version_id, sections)
);
ALTER TABLE publisher.rendering ALTER COLUMN document SET STORAGE EXTERNAL;
CREATE TABLE publisher.attachment (
    version_id uuid NOT NULL REFERENCES publisher.version,
    position integer NOT NULL,
    la_code text NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (version_id, position)
);
ALTER TABLE publisher.attachment ALTER COLUMN data SET STORAGE EXTERNAL;

-- Organisations serve every council; a parent or young person belongs to one plan of one council.
CREATE TABLE publisher.recipient (
    recipient_id uuid PRIMARY KEY,
    kind text NOT NULL,
    name text NOT NULL,
    subscriber text REFERENCES publisher.subscriber,
    channel text NOT NULL,
    la_code text,
    plan_id uuid REFERENCES publisher.plan,
    reference text,
    person bytea,
    CHECK ((plan_id IS NULL) = (la_code IS NULL) AND (plan_id IS NULL) = (reference IS NULL)),
    UNIQUE (plan_id, reference)
);
CREATE TABLE publisher.recipient_code (
    recipient_id uuid NOT NULL REFERENCES publisher.recipient,
    kind text NOT NULL,
    scheme text NOT NULL,
    value text NOT NULL,
    valid_from date NOT NULL,
    valid_until date,
    PRIMARY KEY (kind, scheme, value, valid_from)
);
CREATE INDEX recipient_code_recipient ON publisher.recipient_code (recipient_id);
CREATE TABLE publisher.policy (
    la_code text PRIMARY KEY REFERENCES publisher.council,
    approval text NOT NULL,
    rules jsonb NOT NULL
);

-- The wish. seq rises with every change of it and never falls.
CREATE TABLE publisher.share (
    share_id uuid PRIMARY KEY,
    la_code text NOT NULL,
    plan_id uuid NOT NULL REFERENCES publisher.plan,
    recipient_id uuid NOT NULL REFERENCES publisher.recipient,
    subscriber text,
    seq bigint NOT NULL CHECK (seq > 0),
    action text NOT NULL CHECK (action IN ('hold', 'withdraw')),
    version_id uuid NOT NULL REFERENCES publisher.version,
    rendering_id uuid NOT NULL REFERENCES publisher.rendering,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (plan_id, recipient_id)
);
CREATE INDEX share_of_subscriber ON publisher.share (subscriber, share_id);
CREATE FUNCTION publisher.seq_only_rises() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.seq < OLD.seq OR (NEW.seq = OLD.seq AND (NEW.version_id, NEW.rendering_id, NEW.action, NEW.subscriber)
        IS DISTINCT FROM (OLD.version_id, OLD.rendering_id, OLD.action, OLD.subscriber)) THEN
        RAISE EXCEPTION 'a changed wish needs a higher seq (share %)', OLD.share_id;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER share_seq BEFORE UPDATE ON publisher.share FOR EACH ROW EXECUTE FUNCTION publisher.seq_only_rises();
CREATE TABLE publisher.share_ground (
    share_id uuid NOT NULL REFERENCES publisher.share,
    la_code text NOT NULL,
    grounds text NOT NULL CHECK (grounds IN ('statutory', 'policy', 'decision')),
    reference text NOT NULL,
    reason text NOT NULL,
    from_date date NOT NULL,
    until_date date,
    PRIMARY KEY (share_id, reference)
);
CREATE TABLE publisher.instruction (
    share_id uuid NOT NULL REFERENCES publisher.share,
    seq bigint NOT NULL,
    la_code text NOT NULL,
    type text NOT NULL,
    data bytea NOT NULL,
    version_id uuid NOT NULL,
    requested_at timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    PRIMARY KEY (share_id, seq)
);
-- One row for each share that is not known to be satisfied: what the resend sweep and the notifier look at, so that both cost
-- what is open, not what exists. due_at is that of the oldest unsatisfied instruction.
CREATE TABLE publisher.unsatisfied (
    share_id uuid PRIMARY KEY REFERENCES publisher.share,
    la_code text NOT NULL,
    seq bigint NOT NULL,
    due_at timestamptz NOT NULL,
    check_at timestamptz NOT NULL,
    resends integer NOT NULL DEFAULT 0
);
CREATE INDEX unsatisfied_check ON publisher.unsatisfied (check_at);
CREATE INDEX unsatisfied_due ON publisher.unsatisfied (due_at);

CREATE TABLE publisher.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    key text NOT NULL,
    headers jsonb NOT NULL,
    value bytea NOT NULL,
    refused text
);
CREATE TABLE publisher.idempotency (
    client_id text NOT NULL,
    route text NOT NULL,
    key text NOT NULL,
    body_hash text NOT NULL,
    status integer NOT NULL,
    answer jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (client_id, route, key)
);

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['child', 'plan', 'version', 'rendering', 'attachment', 'share', 'share_ground', 'instruction', 'unsatisfied'] LOOP
        EXECUTE format('ALTER TABLE publisher.%I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY own_councils ON publisher.%I USING (la_code = ANY (publisher.my_councils()))', t);
    END LOOP;
END $$;
ALTER TABLE publisher.recipient ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_councils ON publisher.recipient USING (la_code IS NULL OR la_code = ANY (publisher.my_councils()));

-- The views belong to a role that is neither owner nor exempt, so that the same policies hold for their readers.
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'publisher_views') THEN CREATE ROLE publisher_views NOLOGIN; END IF;
END $$;
GRANT publisher_views TO CURRENT_USER;
GRANT USAGE ON SCHEMA publisher TO publisher_views, :role, audit, notifier;
GRANT SELECT ON ALL TABLES IN SCHEMA publisher TO publisher_views;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA publisher TO :role;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA publisher TO :role;

CREATE VIEW publisher.v_share AS
    SELECT s.share_id, s.la_code, s.plan_id, p.case_reference, s.recipient_id, r.kind AS recipient_kind,
           r.name AS recipient_name, s.subscriber, sub.hosted_by, r.channel, s.seq, s.action, s.version_id,
           v.number AS version, v.issued_on, i.requested_at, i.due_at, g.sha256
    FROM publisher.share s
    JOIN publisher.plan p USING (plan_id)
    JOIN publisher.recipient r USING (recipient_id)
    JOIN publisher.version v ON v.version_id = s.version_id
    JOIN publisher.rendering g ON g.rendering_id = s.rendering_id
    JOIN publisher.instruction i ON i.share_id = s.share_id AND i.seq = s.seq
    LEFT JOIN publisher.subscriber sub ON sub.subscriber = s.subscriber;
CREATE VIEW publisher.v_plan AS SELECT plan_id, la_code, case_reference FROM publisher.plan;
CREATE VIEW publisher.v_version AS SELECT version_id, plan_id, la_code, number, issued_on FROM publisher.version;
CREATE VIEW publisher.v_unsatisfied AS SELECT share_id, la_code, seq, due_at FROM publisher.unsatisfied;
CREATE VIEW publisher.v_subscriber AS SELECT subscriber, name, hosted_by, receipt_key FROM publisher.subscriber;
CREATE VIEW publisher.v_council AS SELECT la_code, name FROM publisher.council;
GRANT CREATE ON SCHEMA publisher TO publisher_views;
ALTER VIEW publisher.v_share OWNER TO publisher_views;
ALTER VIEW publisher.v_plan OWNER TO publisher_views;
ALTER VIEW publisher.v_version OWNER TO publisher_views;
ALTER VIEW publisher.v_unsatisfied OWNER TO publisher_views;
ALTER VIEW publisher.v_subscriber OWNER TO publisher_views;
ALTER VIEW publisher.v_council OWNER TO publisher_views;
REVOKE CREATE ON SCHEMA publisher FROM publisher_views;
GRANT SELECT ON publisher.v_share, publisher.v_plan, publisher.v_version, publisher.v_unsatisfied, publisher.v_subscriber,
    publisher.v_council TO audit, notifier;
GRANT EXECUTE ON FUNCTION publisher.my_councils() TO publisher_views, audit, notifier;

-- migrate:down
DROP SCHEMA publisher CASCADE;
