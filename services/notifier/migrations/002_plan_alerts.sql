-- migrate:up
-- Alerts about a plan as a whole: a statutory clock (of one review, or of the plan), share gaps, confirmations that wait.
ALTER TABLE notifier.alert
    ALTER COLUMN share_id DROP NOT NULL,
    ALTER COLUMN seq DROP NOT NULL,
    ALTER COLUMN recipient_kind DROP NOT NULL,
    ADD clock text,
    ADD reference text,
    -- The council's own reference of the review: tells two clocks of one kind apart, and is never told.
    ADD review text,
    DROP CONSTRAINT alert_kind_check,
    ADD CONSTRAINT alert_of_share_or_plan CHECK (
        CASE WHEN kind IN ('missed', 'refused', 'undeliverable')
             THEN share_id IS NOT NULL AND seq IS NOT NULL AND recipient_kind IS NOT NULL AND clock IS NULL
             WHEN kind IN ('due_soon', 'overdue') THEN share_id IS NULL AND clock IS NOT NULL AND reference IS NOT NULL
             WHEN kind IN ('share_gap', 'unconfirmed') THEN share_id IS NULL AND clock IS NULL
             ELSE false END
    );
CREATE UNIQUE INDEX alert_open_of_plan ON notifier.alert (kind, plan_id, coalesce(clock, ''), coalesce(review, ''))
    WHERE cleared_at IS NULL AND share_id IS NULL;

-- migrate:down
DELETE FROM notifier.notice WHERE alert_id IN (SELECT alert_id FROM notifier.alert WHERE share_id IS NULL);
DELETE FROM notifier.alert WHERE share_id IS NULL;
DROP INDEX notifier.alert_open_of_plan;
ALTER TABLE notifier.alert
    DROP CONSTRAINT alert_of_share_or_plan,
    ADD CONSTRAINT alert_kind_check CHECK (kind IN ('missed', 'refused', 'undeliverable')),
    DROP COLUMN clock, DROP COLUMN reference, DROP COLUMN review,
    ALTER COLUMN share_id SET NOT NULL, ALTER COLUMN seq SET NOT NULL, ALTER COLUMN recipient_kind SET NOT NULL;
