-- migrate:up
-- Where nobody answers, since when and why: a record system by its name, the council's document API by the empty one. It outlives
-- the process, so that a subscriber that is started again and again does not count anew.
CREATE TABLE delivery.unanswered (
    place text PRIMARY KEY,
    since timestamptz NOT NULL DEFAULT now(),
    reason text NOT NULL
);
GRANT SELECT, INSERT, UPDATE, DELETE ON delivery.unanswered TO :role;

-- migrate:down
DROP TABLE delivery.unanswered;
