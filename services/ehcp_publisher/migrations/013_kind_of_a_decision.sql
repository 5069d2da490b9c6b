-- migrate:up
-- As what an organisation was meant whose code is registered as several. NULL in decisions of before, and of people.
ALTER TABLE publisher.decision ADD kind text;

-- migrate:down
ALTER TABLE publisher.decision DROP kind;
