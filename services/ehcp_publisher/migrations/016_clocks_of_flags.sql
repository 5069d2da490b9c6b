-- migrate:up
-- A flag that has a clock of the law says which and from when it counts, so that the notifier can tell of it in time.
ALTER TABLE publisher.flag ADD clock text, ADD runs_from date, ADD CHECK ((clock IS NULL) = (runs_from IS NULL));
CREATE OR REPLACE VIEW publisher.v_flag AS
    SELECT plan_id, code, la_code, detail, since, clock, runs_from FROM publisher.flag;

-- migrate:down
DROP VIEW publisher.v_flag;
CREATE VIEW publisher.v_flag AS SELECT plan_id, code, la_code, detail, since FROM publisher.flag;
ALTER VIEW publisher.v_flag OWNER TO publisher_views;
GRANT SELECT ON publisher.v_flag TO audit, notifier;
ALTER TABLE publisher.flag DROP clock, DROP runs_from;
