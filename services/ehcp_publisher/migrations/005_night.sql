-- migrate:up
-- How far the night's look at all plans in force has come, so that a restart neither skips a plan nor begins again.
CREATE TABLE publisher.night (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    judged_on date NOT NULL,
    after uuid,
    done boolean NOT NULL
);
GRANT SELECT, INSERT, UPDATE ON publisher.night TO :role;

-- migrate:down
DROP TABLE publisher.night;
