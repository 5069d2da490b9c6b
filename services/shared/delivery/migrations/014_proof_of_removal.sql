-- migrate:up
-- removed: what is proved to be gone, so that a later instruction that still names it is not asked of people once more; it leaves
-- the list when it is wanted again. removal: the proof for removed_seq, in words.
ALTER TABLE delivery.delivery ADD removed uuid[] NOT NULL DEFAULT '{}', ADD removal text;
CREATE INDEX delivery_removing ON delivery.delivery (share_id) WHERE jsonb_array_length(instruction->'remove') > 0;

-- migrate:down
DROP INDEX delivery.delivery_removing;
ALTER TABLE delivery.delivery DROP removed, DROP removal;
