-- migrate:up
-- What subscribers found when the council asked them to look into the records: appended to, never changed. Of a (look, share)
-- the highest number counts. signed is the statement byte for byte.
CREATE TABLE audit.holding (
    share_id uuid NOT NULL,
    number bigint NOT NULL,
    look_id uuid NOT NULL,
    la_code text NOT NULL,
    subscriber text NOT NULL,
    hosted_by text NOT NULL,
    found text NOT NULL,
    version_id uuid,
    sha256 text,
    record text,
    withdrawn boolean NOT NULL,
    intact boolean NOT NULL,
    reason text,
    told_seq bigint,
    at timestamptz NOT NULL,
    signed bytea NOT NULL,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (share_id, number)
);
CREATE INDEX holding_of_look ON audit.holding (look_id, share_id, number DESC);
ALTER TABLE audit.holding ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_councils ON audit.holding USING (la_code = ANY (audit.my_councils()));
GRANT SELECT, INSERT ON audit.holding TO :role;
GRANT SELECT ON audit.holding TO audit_views;
CREATE VIEW audit.v_holding AS
    SELECT DISTINCT ON (look_id, share_id) look_id, share_id, la_code, number, found, at, received_at
    FROM audit.holding ORDER BY look_id, share_id, number DESC;
GRANT CREATE ON SCHEMA audit TO audit_views;
ALTER VIEW audit.v_holding OWNER TO audit_views;
REVOKE CREATE ON SCHEMA audit FROM audit_views;
GRANT SELECT ON audit.v_holding TO ehcp_publisher;

-- migrate:down
DROP VIEW audit.v_holding;
DROP TABLE audit.holding;
