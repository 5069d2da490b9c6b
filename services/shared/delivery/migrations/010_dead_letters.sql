-- migrate:up
-- Who looks after a dead letter, and how it was closed: put in again and taken, or dismissed. The record itself never changes.
ALTER TABLE delivery.dead_letter
    ADD owner text,
    ADD closed_at timestamptz,
    ADD closed_by text,
    ADD closed_as text CHECK (closed_as IN ('replayed', 'dismissed')),
    ADD CHECK ((closed_at IS NULL) = (closed_as IS NULL) AND (closed_at IS NULL) = (closed_by IS NULL));
CREATE INDEX dead_letter_open ON delivery.dead_letter (id) WHERE closed_at IS NULL;

-- migrate:down
ALTER TABLE delivery.dead_letter DROP owner, DROP closed_at, DROP closed_by, DROP closed_as;
