-- migrate:up
-- How often in a row a copy was done again because the record did not show it: asked after ever later, so that a record system that
-- never shows what it files (a broken index) is not written to once a minute for ever.
ALTER TABLE delivery.delivery ADD COLUMN mended smallint NOT NULL DEFAULT 0;

-- migrate:down
ALTER TABLE delivery.delivery DROP COLUMN mended;
