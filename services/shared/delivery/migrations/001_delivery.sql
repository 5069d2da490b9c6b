-- migrate:up
-- A subscriber's own books: what it was told, what it did, what it said. No text of a plan is here.
CREATE SCHEMA delivery;

-- One row for each share: the newest instruction, and what the record system holds. next_attempt_at is null when nothing is to
-- be done until a person, later evidence or a new instruction comes.
CREATE TABLE delivery.delivery (
    share_id uuid PRIMARY KEY,
    seq bigint NOT NULL CHECK (seq > 0),
    action text NOT NULL CHECK (action IN ('hold', 'withdraw')),
    instruction jsonb NOT NULL,
    sha256 text,
    plan_id uuid NOT NULL,
    lane text NOT NULL,
    state text NOT NULL CHECK (state IN
        ('waiting', 'sent', 'collected', 'filed', 'opened', 'refused', 'failed', 'withdrawn', 'conflict')),
    held_seq bigint NOT NULL DEFAULT 0 CHECK (held_seq <= seq),
    held_version_id uuid,
    held_sha256 text,
    held_record text,
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,
    claim uuid,
    claimed_by text,
    claimed_until timestamptz,
    parked_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX delivery_due ON delivery.delivery (lane, next_attempt_at) WHERE next_attempt_at IS NOT NULL;
CREATE FUNCTION delivery.only_rises() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.seq < OLD.seq OR NEW.held_seq < OLD.held_seq THEN
        RAISE EXCEPTION 'seq and held_seq never fall (share %)', OLD.share_id;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER delivery_seq BEFORE UPDATE ON delivery.delivery FOR EACH ROW EXECUTE FUNCTION delivery.only_rises();

CREATE TABLE delivery.attempt (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    share_id uuid NOT NULL,
    seq bigint NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    outcome text NOT NULL,
    reason text,
    record text
);
CREATE INDEX attempt_share ON delivery.attempt (share_id);

-- Every receipt ever signed, kept so that it can be sent again byte for byte.
CREATE TABLE delivery.receipt (
    number bigint PRIMARY KEY,
    share_id uuid NOT NULL,
    seq bigint NOT NULL,
    status text NOT NULL,
    signed bytea NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX receipt_share ON delivery.receipt (share_id, seq, number);
CREATE TABLE delivery.receipt_number (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    last bigint NOT NULL
);
INSERT INTO delivery.receipt_number (last) VALUES (0);

CREATE TABLE delivery.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic text NOT NULL,
    key text NOT NULL,
    headers jsonb NOT NULL,
    value bytea NOT NULL,
    refused text
);
CREATE TABLE delivery.dead_letter (
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
-- A broker whose disk was lost counts offsets from 0 again, so the value is part of what makes a dead letter the same.
CREATE UNIQUE INDEX dead_letter_once ON delivery.dead_letter (topic, partition, "offset", md5(value));

-- The organisation's inbox, for recipients without a record system of their own. What people read is sealed under a key per
-- recipient, wrapped by the subscriber's master key.
CREATE TABLE delivery.inbox_key (
    recipient text PRIMARY KEY,
    wrapped_key bytea NOT NULL
);
CREATE TABLE delivery.inbox (
    share_id uuid PRIMARY KEY,
    seq bigint NOT NULL,
    recipient text NOT NULL,
    plan_id uuid NOT NULL,
    version_id uuid NOT NULL,
    sha256 text NOT NULL,
    content bytea NOT NULL,
    arrived_at timestamptz NOT NULL DEFAULT now(),
    opened_at timestamptz,
    opened_by text,
    withdrawn_at timestamptz
);
ALTER TABLE delivery.inbox ALTER COLUMN content SET STORAGE EXTERNAL;
CREATE INDEX inbox_recipient ON delivery.inbox (recipient, share_id);

GRANT USAGE ON SCHEMA delivery TO :role;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA delivery TO :role;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA delivery TO :role;

-- migrate:down
DROP SCHEMA delivery CASCADE;
