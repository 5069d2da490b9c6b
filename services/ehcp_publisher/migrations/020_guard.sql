-- migrate:up
-- By which a text is found to be about a child: keyed hashes of a given and a family name, and of the two with the day of birth.
-- All councils' rows are compared; a finding says the kind of thing that was found and never whose it is.
CREATE TABLE publisher.child_known_as (
    child_id uuid NOT NULL REFERENCES publisher.child ON DELETE CASCADE,
    la_code text NOT NULL,
    name_key bigint NOT NULL,
    born_key bigint NOT NULL,
    PRIMARY KEY (child_id, name_key, born_key)
);
CREATE INDEX known_as_name ON publisher.child_known_as (name_key) INCLUDE (born_key, child_id);
CREATE INDEX child_nhs_anywhere ON publisher.child (nhs_lookup) WHERE nhs_lookup IS NOT NULL;
CREATE INDEX child_upn_anywhere ON publisher.child (upn_lookup) WHERE upn_lookup IS NOT NULL;
-- Children that came before this table: the publisher works out their names at its next start.
ALTER TABLE publisher.child ADD named boolean NOT NULL DEFAULT false;
CREATE INDEX child_unnamed ON publisher.child (child_id) WHERE NOT named;

-- What the guard held: a version or a notice. It goes to nobody before a second person released it; rejected, it never does.
CREATE TABLE publisher.hold (
    thing_id uuid PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('version', 'notice')),
    plan_id uuid NOT NULL REFERENCES publisher.plan,
    la_code text NOT NULL,
    findings jsonb NOT NULL,
    said text NOT NULL,
    -- The council's policy let its files leave unread: nothing waits, the plan is flagged.
    waived boolean NOT NULL DEFAULT false,
    asked_by text NOT NULL,
    asked_at timestamptz NOT NULL DEFAULT now(),
    decided_by text,
    released boolean,
    decided_at timestamptz,
    CHECK ((decided_by IS NULL) = (released IS NULL) AND (decided_by IS NULL) = (decided_at IS NULL)),
    CHECK (lower(decided_by) <> lower(asked_by)),
    CHECK (NOT waived OR released)
);
CREATE INDEX hold_of_plan ON publisher.hold (plan_id);
CREATE INDEX hold_waiting ON publisher.hold (plan_id) WHERE released IS NULL;

-- Whatever a program does wrong, no share is of what is held.
CREATE FUNCTION publisher.nothing_held_is_shared() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM changed c JOIN publisher.hold h ON h.thing_id = coalesce(c.version_id, c.notice_id)
               WHERE c.action = 'hold' AND h.released IS NOT TRUE) THEN
        RAISE EXCEPTION 'what is held is shared with nobody';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER share_not_held_new AFTER INSERT ON publisher.share REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION publisher.nothing_held_is_shared();
CREATE TRIGGER share_not_held AFTER UPDATE ON publisher.share REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION publisher.nothing_held_is_shared();

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['child_known_as', 'hold'] LOOP
        EXECUTE format('ALTER TABLE publisher.%I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY own_councils ON publisher.%I USING (la_code = ANY (publisher.my_councils()))', t);
    END LOOP;
END $$;
GRANT SELECT ON publisher.hold TO publisher_views;
GRANT SELECT, INSERT, UPDATE, DELETE ON publisher.child_known_as, publisher.hold TO :role;

CREATE OR REPLACE VIEW publisher.v_plan AS
    SELECT p.plan_id, p.la_code, p.case_reference, p.state, p.restricted, p.ceases_on, p.appeal_until, p.died,
           (SELECT min(v.issued_on) FROM publisher.version v WHERE v.plan_id = p.plan_id AND v.recalled_at IS NULL
            AND NOT EXISTS (SELECT FROM publisher.hold h WHERE h.thing_id = v.version_id AND h.released IS NOT TRUE))
               AS first_issued_on,
           (SELECT max(v.issued_on) FROM publisher.version v WHERE v.plan_id = p.plan_id AND v.recalled_at IS NULL
            AND NOT EXISTS (SELECT FROM publisher.hold h WHERE h.thing_id = v.version_id AND h.released IS NOT TRUE))
               AS issued_on
    FROM publisher.plan p;
CREATE VIEW publisher.v_hold AS
    SELECT thing_id, plan_id, la_code, kind, asked_at FROM publisher.hold WHERE released IS NULL;
GRANT CREATE ON SCHEMA publisher TO publisher_views;
ALTER VIEW publisher.v_hold OWNER TO publisher_views;
REVOKE CREATE ON SCHEMA publisher FROM publisher_views;
GRANT SELECT ON publisher.v_hold TO audit, notifier;

-- migrate:down
SELECT 1 / 0; -- what was held would leave
