-- migrate:up
-- The officer who issued a version, by the council's own id; issued_by is the client that sent it. NULL where nobody was said.
ALTER TABLE publisher.version ADD by text;

-- migrate:down
ALTER TABLE publisher.version DROP by;
