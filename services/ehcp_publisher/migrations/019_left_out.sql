-- migrate:up
-- Who was left out of a notice that the law has them told by, and why: [{"recipient_id", "who", "reason"}]. who is a recipient's
-- name as shares have it, never a person's.
ALTER TABLE publisher.notice ADD left_out jsonb NOT NULL DEFAULT '[]';

-- migrate:down
ALTER TABLE publisher.notice DROP left_out;
