-- migrate:up
-- Who looks after a dead letter, and how it was closed: put in again and taken, or dismissed. The record itself never changes.
ALTER TABLE audit.dead_letter
    ADD owner text,
    ADD closed_at timestamptz,
    ADD closed_by text,
    ADD closed_as text CHECK (closed_as IN ('replayed', 'dismissed')),
    ADD CHECK ((closed_at IS NULL) = (closed_as IS NULL) AND (closed_at IS NULL) = (closed_by IS NULL));
CREATE INDEX dead_letter_open ON audit.dead_letter (id) WHERE closed_at IS NULL;
GRANT UPDATE (owner, closed_at, closed_by, closed_as) ON audit.dead_letter TO :role;

-- What a subscriber says of itself. last_seen is when it came, by this database's clock; at is when it was written, by the
-- subscriber's: of two that overtook each other the later one stands. Alive is also who sends receipts, hence the empty ones.
ALTER TABLE audit.heartbeat
    ADD at timestamptz,
    ADD waiting bigint,
    ADD lag_seconds bigint,
    ADD unsent bigint,
    ADD dead_letters bigint,
    ADD stopped_topics text[],
    ADD held bigint,
    ADD holdings_digest text,
    ADD checkpoint text;
CREATE OR REPLACE VIEW audit.v_heartbeat AS SELECT subscriber, last_seen, at, waiting, lag_seconds, unsent, dead_letters,
    stopped_topics, held, holdings_digest, checkpoint FROM audit.heartbeat;

-- migrate:down
DROP VIEW audit.v_heartbeat;
CREATE VIEW audit.v_heartbeat AS SELECT subscriber, last_seen FROM audit.heartbeat;
ALTER VIEW audit.v_heartbeat OWNER TO audit_views;
GRANT SELECT ON audit.v_heartbeat TO ehcp_publisher, notifier;
ALTER TABLE audit.heartbeat DROP at, DROP waiting, DROP lag_seconds, DROP unsent, DROP dead_letters, DROP stopped_topics,
    DROP held, DROP holdings_digest, DROP checkpoint;
ALTER TABLE audit.dead_letter DROP owner, DROP closed_at, DROP closed_by, DROP closed_as;
