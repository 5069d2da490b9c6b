-- migrate:up
-- A plan that cannot be decided again is tried later and later, and from the second failure on that is one of its flags.
ALTER TABLE publisher.decision_queue
    ADD try_at timestamptz NOT NULL DEFAULT now(),
    ADD failures integer NOT NULL DEFAULT 0,
    ADD failing_since timestamptz,
    ADD why text;
CREATE INDEX decision_queue_try ON publisher.decision_queue (try_at);
DROP INDEX publisher.decision_queue_order;
CREATE OR REPLACE VIEW publisher.v_flag AS
    SELECT plan_id, code, la_code, detail, since, clock, runs_from FROM publisher.flag
    UNION ALL
    SELECT plan_id, 'not_decided', la_code, why, failing_since, NULL, NULL FROM publisher.decision_queue WHERE failures > 1;
GRANT SELECT ON publisher.v_flag TO :role;

-- migrate:down
CREATE OR REPLACE VIEW publisher.v_flag AS SELECT plan_id, code, la_code, detail, since, clock, runs_from FROM publisher.flag;
DROP INDEX publisher.decision_queue_try;
ALTER TABLE publisher.decision_queue DROP try_at, DROP failures, DROP failing_since, DROP why;
CREATE INDEX decision_queue_order ON publisher.decision_queue (queued_at);
