-- migrate:up
-- Alerts about a recall: copies that must go and are not proved to be gone. One is open for each level of each recall.
ALTER TABLE notifier.alert
    ADD recall_id uuid,
    ADD level integer,
    ADD outstanding jsonb,
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
             WHEN kind = 'recall' THEN plan_id IS NOT NULL AND share_id IS NULL AND recall_id IS NOT NULL AND level > 0
             ELSE false END
    );
DROP INDEX notifier.alert_open_of_plan;
CREATE UNIQUE INDEX alert_open_of_plan ON notifier.alert (kind, plan_id, coalesce(clock, ''), coalesce(review, ''))
    WHERE cleared_at IS NULL AND share_id IS NULL AND plan_id IS NOT NULL AND kind NOT IN ('differs', 'recall');
CREATE UNIQUE INDEX alert_open_of_recall ON notifier.alert (recall_id, level) WHERE cleared_at IS NULL AND kind = 'recall';

-- migrate:down
DELETE FROM notifier.notice WHERE alert_id IN (SELECT alert_id FROM notifier.alert WHERE kind = 'recall');
DELETE FROM notifier.alert WHERE kind = 'recall';
DROP INDEX notifier.alert_open_of_recall, notifier.alert_open_of_plan;
CREATE UNIQUE INDEX alert_open_of_plan ON notifier.alert (kind, plan_id, coalesce(clock, ''), coalesce(review, ''))
    WHERE cleared_at IS NULL AND share_id IS NULL AND plan_id IS NOT NULL AND kind <> 'differs';
ALTER TABLE notifier.alert
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
    ),
    DROP recall_id, DROP level, DROP outstanding;
