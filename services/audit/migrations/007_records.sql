-- migrate:up
-- What a subscriber says of its records: the differences found within a day, by kind, and the copies that could not be asked after.
ALTER TABLE audit.heartbeat
    ADD differences jsonb NOT NULL DEFAULT '{}',
    ADD unasked bigint NOT NULL DEFAULT 0,
    ADD unasked_since timestamptz;
CREATE OR REPLACE VIEW audit.v_heartbeat AS SELECT subscriber, last_seen, at, waiting, lag_seconds, unsent, dead_letters,
    stopped_topics, held, holdings_digest, checkpoint, differences, unasked, unasked_since FROM audit.heartbeat;

-- migrate:down
DROP VIEW audit.v_heartbeat;
CREATE VIEW audit.v_heartbeat AS SELECT subscriber, last_seen, at, waiting, lag_seconds, unsent, dead_letters, stopped_topics,
    held, holdings_digest, checkpoint FROM audit.heartbeat;
ALTER VIEW audit.v_heartbeat OWNER TO audit_views;
GRANT SELECT ON audit.v_heartbeat TO ehcp_publisher, notifier;
ALTER TABLE audit.heartbeat DROP differences, DROP unasked, DROP unasked_since;
