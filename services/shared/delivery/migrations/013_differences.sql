-- migrate:up
-- The last time that each difference was found: told to the council in numbers, with every heartbeat.
CREATE TABLE delivery.difference (
    share_id uuid NOT NULL,
    difference text NOT NULL,
    found_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (share_id, difference)
);
CREATE INDEX difference_found ON delivery.difference (found_at);
GRANT SELECT, INSERT, UPDATE, DELETE ON delivery.difference TO :role;

-- migrate:down
DROP TABLE delivery.difference;
