-- migrate:up
-- Alerts about a plan as a whole: a statutory clock (of one review, or of the plan), share gaps, confirmations that wait.
ALTER TABLE notifier.alert
    DROP CONSTRAINT alert_kind_check,
    ADD CHECK (kind IN ('missed', 'refused', 'undeliverable', 'due_soon', 'overdue', 'share_gap', 'unconfirmed')),
    ALTER COLUMN share_id DROP NOT NULL,
    ALTER COLUMN seq DROP NOT NULL,
    ALTER COLUMN recipient_kind DROP NOT NULL,
    ADD clock text,
    ADD reference text,
    -- The council's own reference of the review: tells two clocks of one kind apart, and is never told.
    ADD review text,
    ADD CHECK ((share_id IS NULL) = (kind IN ('due_soon', 'overdue', 'share_gap', 'unconfirmed'))),
    ADD CHECK ((share_id IS NULL) = (seq IS NULL) AND (share_id IS NULL) = (recipient_kind IS NULL)),
    ADD CHECK ((clock IS NULL) = (kind NOT IN ('due_soon', 'overdue')) AND (clock IS NULL) = (reference IS NULL));
CREATE UNIQUE INDEX alert_open_of_plan ON notifier.alert (kind, plan_id, coalesce(clock, ''), coalesce(review, ''))
    WHERE cleared_at IS NULL AND share_id IS NULL;

-- migrate:down
DELETE FROM notifier.notice WHERE alert_id IN (SELECT alert_id FROM notifier.alert WHERE share_id IS NULL);
DELETE FROM notifier.alert WHERE share_id IS NULL;
DROP INDEX notifier.alert_open_of_plan;
ALTER TABLE notifier.alert
    DROP COLUMN clock, DROP COLUMN reference, DROP COLUMN review,
    ALTER COLUMN share_id SET NOT NULL, ALTER COLUMN seq SET NOT NULL, ALTER COLUMN recipient_kind SET NOT NULL;
