-- migrate:up
-- Topics of receipts that an audit process does not read, because too much of them was garbage. That is known in its memory
-- alone, so it says it every few seconds: what nobody has said for a minute is over, the process with it.
CREATE TABLE audit.stopped_topic (
    topic text NOT NULL,
    process uuid NOT NULL,
    subscriber text NOT NULL,
    since timestamptz NOT NULL,
    said_at timestamptz NOT NULL,
    PRIMARY KEY (topic, process)
);
GRANT SELECT, INSERT, UPDATE, DELETE ON audit.stopped_topic TO :role;
GRANT SELECT ON audit.stopped_topic TO audit_views;
CREATE VIEW audit.v_stopped_topic AS
    SELECT subscriber, topic, min(since) AS since FROM audit.stopped_topic
    WHERE said_at > now() - interval '1 minute' GROUP BY subscriber, topic;
GRANT CREATE ON SCHEMA audit TO audit_views;
ALTER VIEW audit.v_stopped_topic OWNER TO audit_views;
REVOKE CREATE ON SCHEMA audit FROM audit_views;
GRANT SELECT ON audit.v_stopped_topic TO notifier;

-- migrate:down
DROP VIEW audit.v_stopped_topic;
DROP TABLE audit.stopped_topic;
