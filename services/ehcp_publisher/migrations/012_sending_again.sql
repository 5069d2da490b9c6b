-- migrate:up
-- A person sends instructions again, one or a hundred thousand: what was chosen, and how far it is. after is the last share that
-- was put out, so that a crash costs nothing. No child is in a choice but by a case reference.
CREATE TABLE publisher.sending_again (
    job_id uuid PRIMARY KEY,
    la_codes text[] NOT NULL CHECK (cardinality(la_codes) > 0),
    asked_by text NOT NULL,
    by text NOT NULL,
    choice jsonb NOT NULL,
    total integer NOT NULL,
    sent integer NOT NULL DEFAULT 0,
    after uuid,
    begun_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    cancelled_by text
);
CREATE INDEX sending_again_open ON publisher.sending_again (begun_at) WHERE ended_at IS NULL;
ALTER TABLE publisher.sending_again ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_councils ON publisher.sending_again USING (la_codes <@ publisher.my_councils());
GRANT SELECT, INSERT, UPDATE ON publisher.sending_again TO :role;

-- For those who ask the HTTPS feed, which tells only what no receipt has answered: told once more, then taken out.
CREATE TABLE publisher.told_again (
    share_id uuid PRIMARY KEY,
    la_code text NOT NULL,
    subscriber text NOT NULL,
    job_id uuid NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX told_again_subscriber ON publisher.told_again (subscriber, share_id);
CREATE INDEX told_again_at ON publisher.told_again (at);
ALTER TABLE publisher.told_again ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_councils ON publisher.told_again USING (la_code = ANY (publisher.my_councils()));
GRANT SELECT, INSERT, UPDATE, DELETE ON publisher.told_again TO :role;

-- migrate:down
DROP TABLE publisher.told_again;
DROP TABLE publisher.sending_again;
