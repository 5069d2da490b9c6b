-- migrate:up
-- Recipients that a subscriber delivers nothing to just now, with who said so and why.
ALTER TABLE audit.heartbeat ADD paused jsonb NOT NULL DEFAULT '[]';
CREATE VIEW audit.v_paused AS
    SELECT h.subscriber, p.recipient, p.reason, p.paused_by, p.paused_at
    FROM audit.heartbeat h CROSS JOIN jsonb_to_recordset(h.paused)
        AS p (recipient text, reason text, paused_by text, paused_at timestamptz);
GRANT CREATE ON SCHEMA audit TO audit_views;
ALTER VIEW audit.v_paused OWNER TO audit_views;
REVOKE CREATE ON SCHEMA audit FROM audit_views;
GRANT SELECT ON audit.v_paused TO notifier;

-- migrate:down
DROP VIEW audit.v_paused;
ALTER TABLE audit.heartbeat DROP paused;
