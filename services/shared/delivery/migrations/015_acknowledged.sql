-- migrate:up
-- Opened is what a reader's account did; acknowledged is what a person of the organisation says of the version: it was read.
ALTER TABLE delivery.inbox
    ADD COLUMN acknowledged_at timestamptz,
    ADD COLUMN acknowledged_by text,
    ADD CHECK ((acknowledged_at IS NULL) = (acknowledged_by IS NULL));

-- migrate:down
ALTER TABLE delivery.inbox DROP COLUMN acknowledged_at, DROP COLUMN acknowledged_by;
