-- migrate:up
-- The share is of a notice, also when it has ended: what a record is asked about is then the notice, not the plan.
ALTER TABLE delivery.delivery ADD COLUMN notice boolean NOT NULL DEFAULT false;
UPDATE delivery.delivery SET notice = true WHERE instruction->>'notice' IS NOT NULL;

-- migrate:down
ALTER TABLE delivery.delivery DROP COLUMN notice;
