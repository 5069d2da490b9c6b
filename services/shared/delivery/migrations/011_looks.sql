-- migrate:up
-- What the council asked to be looked at in the records, and the answer, kept so that it can be sent again byte for byte.
-- due_at is null once it is answered.
CREATE TABLE delivery.look (
    look_id uuid NOT NULL,
    share_id uuid NOT NULL,
    plan_id uuid NOT NULL,
    recipient jsonb NOT NULL,
    lane text NOT NULL,
    until timestamptz NOT NULL,
    due_at timestamptz,
    found text,
    signed bytea,
    PRIMARY KEY (look_id, share_id)
);
CREATE INDEX look_due ON delivery.look (lane, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX look_until ON delivery.look (until);
GRANT SELECT, INSERT, UPDATE, DELETE ON delivery.look TO :role;

-- migrate:down
DROP TABLE delivery.look;
