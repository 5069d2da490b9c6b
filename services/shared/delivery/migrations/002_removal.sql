-- migrate:up
-- Recall and release. removed_seq is the seq for which it is proved that what its instruction names to remove is gone: a removal
-- that a person stated is not asked for again while the right version is still being delivered.
ALTER TABLE delivery.delivery
    DROP CONSTRAINT delivery_action_check,
    DROP CONSTRAINT delivery_state_check,
    ADD CONSTRAINT delivery_action_check CHECK (action IN ('hold', 'withdraw', 'recall', 'release')),
    ADD CONSTRAINT delivery_state_check CHECK (state IN
        ('waiting', 'sent', 'collected', 'filed', 'opened', 'refused', 'failed', 'withdrawn', 'recalled', 'released',
         'conflict')),
    ADD COLUMN removed_seq bigint;

-- Notices lie in the inbox beside plans, and a recalled item keeps nothing but that it was there and who had opened it.
ALTER TABLE delivery.inbox
    ADD COLUMN notice text,
    ADD COLUMN removed_at timestamptz,
    ALTER COLUMN content DROP NOT NULL;
CREATE TABLE delivery.inbox_opening (
    share_id uuid NOT NULL,
    version_id uuid NOT NULL,
    reader text NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (share_id, version_id, reader)
);
GRANT SELECT, INSERT, UPDATE, DELETE ON delivery.inbox_opening TO :role;

-- migrate:down
DROP TABLE delivery.inbox_opening;
ALTER TABLE delivery.inbox DROP COLUMN notice, DROP COLUMN removed_at;
ALTER TABLE delivery.delivery DROP COLUMN removed_seq;
