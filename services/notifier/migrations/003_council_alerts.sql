-- migrate:up
-- Alerts about what differs from the case system: of a plan, or of a council and none of its plans.
ALTER TABLE notifier.alert
    ALTER COLUMN plan_id DROP NOT NULL,
    -- What of the plan or council it is about: the kind of difference.
    ADD about text,
    ADD count bigint,
    DROP CONSTRAINT alert_of_share_or_plan,
    ADD CONSTRAINT alert_of_share_or_plan CHECK (
        CASE WHEN kind IN ('missed', 'refused', 'undeliverable')
             THEN plan_id IS NOT NULL AND share_id IS NOT NULL AND seq IS NOT NULL AND recipient_kind IS NOT NULL
                  AND clock IS NULL
             WHEN kind IN ('due_soon', 'overdue')
             THEN plan_id IS NOT NULL AND share_id IS NULL AND clock IS NOT NULL AND reference IS NOT NULL
             WHEN kind IN ('share_gap', 'unconfirmed') THEN plan_id IS NOT NULL AND share_id IS NULL AND clock IS NULL
             WHEN kind = 'differs' THEN plan_id IS NOT NULL AND share_id IS NULL AND clock IS NULL AND about IS NOT NULL
             WHEN kind = 'not_here' THEN plan_id IS NULL AND share_id IS NULL AND clock IS NULL AND count > 0
             ELSE false END
    );
DROP INDEX notifier.alert_open_of_plan;
CREATE UNIQUE INDEX alert_open_of_plan ON notifier.alert (kind, plan_id, coalesce(clock, ''), coalesce(review, ''))
    WHERE cleared_at IS NULL AND share_id IS NULL AND plan_id IS NOT NULL AND kind <> 'differs';
CREATE UNIQUE INDEX alert_open_of_difference ON notifier.alert (plan_id, about) WHERE cleared_at IS NULL AND kind = 'differs';
CREATE UNIQUE INDEX alert_open_of_council ON notifier.alert (kind, la_code, coalesce(subscriber, ''), coalesce(about, ''))
    WHERE cleared_at IS NULL AND plan_id IS NULL;

-- migrate:down
DELETE FROM notifier.notice WHERE alert_id IN (SELECT alert_id FROM notifier.alert WHERE kind IN ('differs', 'not_here'));
DELETE FROM notifier.alert WHERE kind IN ('differs', 'not_here');
DROP INDEX notifier.alert_open_of_plan, notifier.alert_open_of_difference, notifier.alert_open_of_council;
CREATE UNIQUE INDEX alert_open_of_plan ON notifier.alert (kind, plan_id, coalesce(clock, ''), coalesce(review, ''))
    WHERE cleared_at IS NULL AND share_id IS NULL;
ALTER TABLE notifier.alert
    ALTER COLUMN plan_id SET NOT NULL,
    DROP COLUMN about,
    DROP COLUMN count,
    DROP CONSTRAINT alert_of_share_or_plan,
    ADD CONSTRAINT alert_of_share_or_plan CHECK (
        CASE WHEN kind IN ('missed', 'refused', 'undeliverable')
             THEN share_id IS NOT NULL AND seq IS NOT NULL AND recipient_kind IS NOT NULL AND clock IS NULL
             WHEN kind IN ('due_soon', 'overdue') THEN share_id IS NULL AND clock IS NOT NULL AND reference IS NOT NULL
             WHEN kind IN ('share_gap', 'unconfirmed') THEN share_id IS NULL AND clock IS NULL
             ELSE false END
    );
