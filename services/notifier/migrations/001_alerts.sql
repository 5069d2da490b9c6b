-- migrate:up
-- What should have arrived and did not: alerts, and the messages that tell of them. Nothing personal: opaque ids only.
CREATE SCHEMA notifier;

CREATE TABLE notifier.alert (
    alert_id uuid PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('missed', 'refused', 'undeliverable')),
    la_code text NOT NULL,
    plan_id uuid NOT NULL,
    share_id uuid NOT NULL,
    seq bigint NOT NULL,
    recipient_kind text NOT NULL,
    subscriber text,
    due_at timestamptz NOT NULL,
    raised_at timestamptz NOT NULL,
    acknowledged_at timestamptz,
    acknowledged_by text,
    cleared_at timestamptz,
    cleared_because text,
    CHECK ((cleared_at IS NULL) = (cleared_because IS NULL)),
    CHECK ((acknowledged_at IS NULL) = (acknowledged_by IS NULL))
);
-- One trouble is one alert, however often it is looked at.
CREATE UNIQUE INDEX alert_open ON notifier.alert (kind, share_id) WHERE cleared_at IS NULL;
CREATE INDEX alert_open_in_order ON notifier.alert (alert_id) WHERE cleared_at IS NULL;

-- What a channel has still to tell; grouped into a message when the channel can take one, so that many become a digest.
CREATE TABLE notifier.message (
    message_id uuid PRIMARY KEY,
    channel text NOT NULL,
    la_code text NOT NULL,
    made_at timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    next_try_at timestamptz NOT NULL,
    failure text,
    sent_at timestamptz
);
CREATE UNIQUE INDEX message_unsent ON notifier.message (channel, la_code) WHERE sent_at IS NULL;
CREATE TABLE notifier.notice (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel text NOT NULL,
    la_code text NOT NULL,
    alert_id uuid NOT NULL REFERENCES notifier.alert,
    change text NOT NULL CHECK (change IN ('raised', 'cleared')),
    made_at timestamptz NOT NULL,
    message_id uuid REFERENCES notifier.message
);
CREATE INDEX notice_waiting ON notifier.notice (channel, la_code, id) WHERE message_id IS NULL;
CREATE INDEX notice_of_message ON notifier.notice (message_id, id) WHERE message_id IS NOT NULL;

CREATE TABLE notifier.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    key text NOT NULL,
    headers jsonb NOT NULL,
    value bytea NOT NULL,
    refused text
);

CREATE FUNCTION notifier.my_councils() RETURNS text[] LANGUAGE sql STABLE
    AS $$ SELECT string_to_array(coalesce(current_setting('ehcp.councils', true), ''), ',') $$;
ALTER TABLE notifier.alert ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_councils ON notifier.alert USING (la_code = ANY (notifier.my_councils()));
ALTER TABLE notifier.notice ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_councils ON notifier.notice USING (la_code = ANY (notifier.my_councils()));
ALTER TABLE notifier.message ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_councils ON notifier.message USING (la_code = ANY (notifier.my_councils()));

GRANT USAGE ON SCHEMA notifier TO :role;
GRANT SELECT, INSERT, UPDATE ON notifier.alert, notifier.message, notifier.notice TO :role;
GRANT SELECT, INSERT, UPDATE, DELETE ON notifier.outbox TO :role;

-- migrate:down
DROP SCHEMA notifier CASCADE;
