-- migrate:up
-- Of the family, whom an event took out of it, and whose reference came back with another name: by recipient_id. Named again, they
-- wait for a second person's confirmation.
ALTER TABLE publisher.plan ADD doubts jsonb NOT NULL DEFAULT '{}';

-- migrate:down
ALTER TABLE publisher.plan DROP doubts;
