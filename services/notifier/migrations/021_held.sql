-- migrate:up
-- Something of a plan is held until a second person has looked: an alert about the plan as a whole.
ALTER TABLE notifier.alert
    DROP CONSTRAINT alert_of_share_or_plan,
    ADD CONSTRAINT alert_of_share_or_plan CHECK (
        CASE WHEN kind IN ('missed', 'refused', 'undeliverable')
             THEN plan_id IS NOT NULL AND share_id IS NOT NULL AND seq IS NOT NULL AND recipient_kind IS NOT NULL
                  AND clock IS NULL
             WHEN kind IN ('due_soon', 'overdue')
             THEN plan_id IS NOT NULL AND share_id IS NULL AND clock IS NOT NULL AND reference IS NOT NULL
             WHEN kind IN ('share_gap', 'unconfirmed', 'held') THEN plan_id IS NOT NULL AND share_id IS NULL AND clock IS NULL
             WHEN kind = 'differs' THEN plan_id IS NOT NULL AND share_id IS NULL AND clock IS NULL AND about IS NOT NULL
             WHEN kind = 'not_here' THEN plan_id IS NULL AND share_id IS NULL AND clock IS NULL AND count > 0
             WHEN kind = 'recall' THEN plan_id IS NOT NULL AND share_id IS NULL AND recall_id IS NOT NULL AND level > 0
             WHEN kind IN ('silent', 'stopped', 'orphaned', 'not_ended', 'unasked', 'paused')
             THEN plan_id IS NULL AND share_id IS NULL AND clock IS NULL AND subscriber IS NOT NULL
                  AND (kind IN ('stopped', 'paused')) = (about IS NOT NULL)
             ELSE false END
    );

-- migrate:down
DELETE FROM notifier.notice WHERE alert_id IN (SELECT alert_id FROM notifier.alert WHERE kind = 'held');
DELETE FROM notifier.alert WHERE kind = 'held';
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
             WHEN kind = 'recall' THEN plan_id IS NOT NULL AND share_id IS NULL AND recall_id IS NOT NULL AND level > 0
             WHEN kind IN ('silent', 'stopped', 'orphaned', 'not_ended', 'unasked', 'paused')
             THEN plan_id IS NULL AND share_id IS NULL AND clock IS NULL AND subscriber IS NOT NULL
                  AND (kind IN ('stopped', 'paused')) = (about IS NOT NULL)
             ELSE false END
    );
