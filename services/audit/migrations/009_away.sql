-- migrate:up
-- Record systems of a subscriber where nobody has answered for long; without a name, the council's document API.
ALTER TABLE audit.heartbeat ADD away jsonb NOT NULL DEFAULT '[]';
CREATE VIEW audit.v_away AS
    SELECT h.subscriber, a.record_system, a.since, a.reason
    FROM audit.heartbeat h CROSS JOIN jsonb_to_recordset(h.away) AS a (record_system text, since timestamptz, reason text);
GRANT CREATE ON SCHEMA audit TO audit_views;
ALTER VIEW audit.v_away OWNER TO audit_views;
REVOKE CREATE ON SCHEMA audit FROM audit_views;
GRANT SELECT ON audit.v_away TO notifier;

-- migrate:down
DROP VIEW audit.v_away;
ALTER TABLE audit.heartbeat DROP away;
