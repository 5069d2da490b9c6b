-- migrate:up
-- Alerts are about a share, a plan, a recall, or a council and none of its plans. Which kind is about what, the program says; here
-- stands only what is true of all, so that a new kind needs no new rule.
ALTER TABLE notifier.alert
    ALTER COLUMN plan_id DROP NOT NULL,
    -- What of it: the kind of difference, a topic, a recipient's code.
    ADD about text,
    ADD count bigint,
    ADD recall_id uuid,
    -- How late a recall is; one alert is open for each level.
    ADD level integer,
    ADD outstanding jsonb,
    DROP CONSTRAINT alert_of_share_or_plan,
    ADD CONSTRAINT alert_of_something CHECK (
        (share_id IS NULL OR plan_id IS NOT NULL AND seq IS NOT NULL AND recipient_kind IS NOT NULL AND clock IS NULL)
        AND (clock IS NULL OR reference IS NOT NULL AND plan_id IS NOT NULL)
        AND (recall_id IS NULL) = (level IS NULL)
        AND (recall_id IS NULL OR plan_id IS NOT NULL AND share_id IS NULL AND level > 0)
        AND (plan_id IS NOT NULL OR subscriber IS NOT NULL OR coalesce(count, 0) > 0)
    );
DROP INDEX notifier.alert_open_of_plan;
CREATE UNIQUE INDEX alert_open_of_plan ON notifier.alert (kind, plan_id, coalesce(clock, ''), coalesce(review, ''), coalesce(about, ''))
    WHERE cleared_at IS NULL AND share_id IS NULL AND plan_id IS NOT NULL AND recall_id IS NULL;
CREATE UNIQUE INDEX alert_open_of_recall ON notifier.alert (recall_id, level) WHERE cleared_at IS NULL AND recall_id IS NOT NULL;
CREATE UNIQUE INDEX alert_open_of_council ON notifier.alert (kind, la_code, coalesce(subscriber, ''), coalesce(about, ''))
    WHERE cleared_at IS NULL AND plan_id IS NULL;

-- migrate:down
DELETE FROM notifier.notice WHERE alert_id IN (
    SELECT alert_id FROM notifier.alert
    WHERE kind NOT IN ('missed', 'refused', 'undeliverable', 'due_soon', 'overdue', 'share_gap', 'unconfirmed'));
DELETE FROM notifier.alert
    WHERE kind NOT IN ('missed', 'refused', 'undeliverable', 'due_soon', 'overdue', 'share_gap', 'unconfirmed');
DROP INDEX notifier.alert_open_of_plan, notifier.alert_open_of_recall, notifier.alert_open_of_council;
CREATE UNIQUE INDEX alert_open_of_plan ON notifier.alert (kind, plan_id, coalesce(clock, ''), coalesce(review, ''))
    WHERE cleared_at IS NULL AND share_id IS NULL;
ALTER TABLE notifier.alert
    ALTER COLUMN plan_id SET NOT NULL,
    DROP CONSTRAINT alert_of_something,
    DROP about, DROP count, DROP recall_id, DROP level, DROP outstanding,
    ADD CONSTRAINT alert_of_share_or_plan CHECK (
        CASE WHEN kind IN ('missed', 'refused', 'undeliverable')
             THEN share_id IS NOT NULL AND seq IS NOT NULL AND recipient_kind IS NOT NULL AND clock IS NULL
             WHEN kind IN ('due_soon', 'overdue') THEN share_id IS NULL AND clock IS NOT NULL AND reference IS NOT NULL
             WHEN kind IN ('share_gap', 'unconfirmed') THEN share_id IS NULL AND clock IS NULL
             ELSE false END
    );
