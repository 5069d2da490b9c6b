-- migrate:up
-- A record that still holds a recalled version holds what must go, however new it is: who looks into records must know.
CREATE OR REPLACE VIEW publisher.v_version AS
    SELECT version_id, plan_id, la_code, number, issued_on, recalled_at FROM publisher.version;

-- migrate:down
DROP VIEW publisher.v_version;
CREATE VIEW publisher.v_version AS SELECT version_id, plan_id, la_code, number, issued_on FROM publisher.version;
ALTER VIEW publisher.v_version OWNER TO publisher_views;
GRANT SELECT ON publisher.v_version TO audit, notifier;
