-- migrate:up
-- When the record system is next asked whether it really holds what is believed to be there; null while that is not known, or
-- where nothing can be asked. Soon after a change, then once a night.
ALTER TABLE delivery.delivery ADD COLUMN check_at timestamptz;
CREATE INDEX delivery_check ON delivery.delivery (lane, check_at) WHERE check_at IS NOT NULL;
UPDATE delivery.delivery SET check_at = now() + random() * interval '1 day'
WHERE state IN ('filed', 'opened', 'withdrawn', 'recalled') AND next_attempt_at IS NULL AND instruction->>'notice' IS NULL;

-- migrate:down
ALTER TABLE delivery.delivery DROP COLUMN check_at;
