-- migrate:up
-- Every reason for which a plan is held, oldest first: lifting the one leaves the others. restricted is the oldest.
ALTER TABLE publisher.plan ADD restrictions text[] NOT NULL DEFAULT '{}';
UPDATE publisher.plan SET restrictions = ARRAY[restricted] WHERE restricted IS NOT NULL;
ALTER TABLE publisher.plan ADD CHECK (restricted IS NOT DISTINCT FROM restrictions[1]);

-- migrate:down
ALTER TABLE publisher.plan DROP restrictions;
