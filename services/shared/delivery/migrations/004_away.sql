-- migrate:up
-- The last attempt failed because the record system, or the council, was away: nothing is wrong with the delivery itself, so it
-- is tried at once when the record system answers again, however long it would still have waited.
ALTER TABLE delivery.delivery ADD COLUMN away boolean NOT NULL DEFAULT false;
CREATE INDEX delivery_away ON delivery.delivery (lane) WHERE away;

-- migrate:down
ALTER TABLE delivery.delivery DROP COLUMN away;
