-- migrate:up
-- A plan may go through two councils on one day, and each has had it. Times that are the wrong way round, as were taken once, stay.
ALTER TABLE publisher.custody
    DROP CONSTRAINT custody_pkey,
    ADD place integer GENERATED ALWAYS AS IDENTITY,
    ADD PRIMARY KEY (plan_id, place),
    ADD CONSTRAINT custody_in_order CHECK (from_date <= until_date) NOT VALID;

-- migrate:down
DELETE FROM publisher.custody c USING publisher.custody d
    WHERE c.plan_id = d.plan_id AND c.until_date = d.until_date AND c.place > d.place;
ALTER TABLE publisher.custody DROP CONSTRAINT custody_in_order, DROP COLUMN place, ADD PRIMARY KEY (plan_id, until_date);
