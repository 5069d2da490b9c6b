-- migrate:up
-- Recipients that nothing is delivered to until their operator resumes them, and who paused them why. A delivery that was due
-- meanwhile is marked, so that resuming finds it.
CREATE TABLE delivery.pause (
    recipient text PRIMARY KEY,
    reason text NOT NULL,
    paused_by text NOT NULL,
    paused_at timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT, INSERT, UPDATE, DELETE ON delivery.pause TO :role;
ALTER TABLE delivery.delivery ADD COLUMN paused boolean NOT NULL DEFAULT false;
CREATE INDEX delivery_paused ON delivery.delivery (share_id) WHERE paused;

-- What is to be removed goes before everything else: in a first load of days, or behind a cap.
CREATE INDEX delivery_due_removal ON delivery.delivery (lane, next_attempt_at)
    WHERE next_attempt_at IS NOT NULL AND jsonb_array_length(instruction->'remove') > 0;

-- migrate:down
DROP INDEX delivery.delivery_due_removal;
ALTER TABLE delivery.delivery DROP COLUMN paused;
DROP TABLE delivery.pause;
