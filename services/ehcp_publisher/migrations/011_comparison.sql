-- migrate:up
-- What a council's last comparison of its case system with the exchange found. Ids and kinds alone; the next one replaces it.
CREATE TABLE publisher.comparison (
    la_code text PRIMARY KEY REFERENCES publisher.council,
    compared_at timestamptz NOT NULL,
    compared_by text NOT NULL,
    plans integer NOT NULL,
    rows_refused integer NOT NULL,
    -- In force there and without an id here.
    not_here integer NOT NULL
);
CREATE TABLE publisher.difference (
    la_code text NOT NULL REFERENCES publisher.council,
    plan_id uuid NOT NULL REFERENCES publisher.plan,
    kind text NOT NULL,
    since timestamptz NOT NULL,
    told_at timestamptz NOT NULL,
    PRIMARY KEY (la_code, plan_id, kind)
);
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['comparison', 'difference'] LOOP
        EXECUTE format('ALTER TABLE publisher.%I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY own_councils ON publisher.%I USING (la_code = ANY (publisher.my_councils()))', t);
    END LOOP;
END $$;
GRANT SELECT, INSERT, UPDATE, DELETE ON publisher.comparison, publisher.difference TO :role;
GRANT SELECT ON publisher.comparison, publisher.difference TO publisher_views;
CREATE VIEW publisher.v_comparison AS SELECT la_code, compared_at, not_here FROM publisher.comparison;
CREATE VIEW publisher.v_difference AS SELECT plan_id, la_code, kind, since FROM publisher.difference;
GRANT CREATE ON SCHEMA publisher TO publisher_views;
ALTER VIEW publisher.v_comparison OWNER TO publisher_views;
ALTER VIEW publisher.v_difference OWNER TO publisher_views;
REVOKE CREATE ON SCHEMA publisher FROM publisher_views;
GRANT SELECT ON publisher.v_comparison, publisher.v_difference TO notifier;

-- migrate:down
DROP VIEW publisher.v_difference, publisher.v_comparison;
DROP TABLE publisher.difference, publisher.comparison;
