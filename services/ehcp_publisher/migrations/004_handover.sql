-- migrate:up
-- A recipient that moved to another subscriber: the former one stays until the new one satisfies the share, then it is told to
-- let go. `data` is that instruction; it stays on the former subscriber's list, so that a lost message costs time only.
CREATE TABLE publisher.handover (
    share_id uuid NOT NULL REFERENCES publisher.share,
    subscriber text NOT NULL,
    la_code text NOT NULL,
    seq bigint,
    data bytea,
    since timestamptz NOT NULL DEFAULT now(),
    released_at timestamptz,
    PRIMARY KEY (share_id, subscriber),
    CHECK ((released_at IS NULL) = (data IS NULL) AND (data IS NULL) = (seq IS NULL))
);
CREATE INDEX handover_open ON publisher.handover (since) WHERE released_at IS NULL;
ALTER TABLE publisher.handover ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_councils ON publisher.handover USING (la_code = ANY (publisher.my_councils()));
GRANT SELECT ON publisher.handover TO publisher_views;
GRANT SELECT, INSERT, UPDATE, DELETE ON publisher.handover TO :role;
CREATE VIEW publisher.v_handover AS SELECT share_id, subscriber, la_code, released_at FROM publisher.handover;
GRANT CREATE ON SCHEMA publisher TO publisher_views;
ALTER VIEW publisher.v_handover OWNER TO publisher_views;
REVOKE CREATE ON SCHEMA publisher FROM publisher_views;
GRANT SELECT ON publisher.v_handover TO audit;

-- migrate:down
DROP VIEW publisher.v_handover;
DROP TABLE publisher.handover;
