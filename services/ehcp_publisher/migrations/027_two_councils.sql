-- migrate:up
-- Plans in force for one child in two councils of this exchange: a row for each of the two. A council sees of it a flag, which names
-- the other council and nothing of its plan; where that plan is restricted, not even the council.
CREATE TABLE publisher.same_child (
    plan_id uuid NOT NULL REFERENCES publisher.plan,
    other_plan_id uuid NOT NULL REFERENCES publisher.plan,
    la_code text NOT NULL,
    other_la_code text,
    since timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (plan_id, other_plan_id)
);
CREATE INDEX same_child_other ON publisher.same_child (other_plan_id);
ALTER TABLE publisher.same_child ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_councils ON publisher.same_child USING (la_code = ANY (publisher.my_councils()));

-- Looks for these plans' children in all councils, which no transaction of one council may, and writes the rows of both sides. Same
-- child: one NHS number; or one UPN, unless two NHS numbers say that they are two children. In force: live or ceasing, with a
-- version that may leave (as may_leave has it, which a view of one council's rows is). Returns the plans that have such a row.
CREATE FUNCTION publisher.look_for_same_child(plans uuid[]) RETURNS SETOF uuid
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = publisher, pg_temp AS $$
BEGIN
    RETURN QUERY WITH own AS (
        SELECT p.plan_id, p.la_code, p.restricted, c.nhs_lookup, c.upn_lookup
        FROM plan p JOIN child c USING (child_id) WHERE p.plan_id = ANY (plans) AND p.state IN ('live', 'ceasing')
    ), found AS (
        SELECT own.plan_id, own.la_code, own.restricted, c.child_id FROM own JOIN child c ON c.nhs_lookup = own.nhs_lookup
        UNION
        SELECT own.plan_id, own.la_code, own.restricted, c.child_id FROM own JOIN child c ON c.upn_lookup = own.upn_lookup
        WHERE own.nhs_lookup IS NULL OR c.nhs_lookup IS NULL
    ), pair AS (
        SELECT f.plan_id AS one, f.la_code AS one_la, f.restricted IS NOT NULL AS one_restricted,
               p.plan_id AS two, p.la_code AS two_la, p.restricted IS NOT NULL AS two_restricted
        FROM found f JOIN plan p USING (child_id) WHERE p.la_code <> f.la_code AND p.state IN ('live', 'ceasing')
        AND (SELECT count(DISTINCT v.plan_id) FROM version v LEFT JOIN hold h ON h.thing_id = v.version_id
             WHERE v.plan_id IN (f.plan_id, p.plan_id) AND v.recalled_at IS NULL AND coalesce(h.released, h.thing_id IS NULL)) = 2
    ), side AS (
        SELECT one AS plan_id, two AS other_plan_id, one_la AS la_code, CASE WHEN NOT two_restricted THEN two_la END AS other_la_code
        FROM pair
        UNION
        SELECT two, one, two_la, CASE WHEN NOT one_restricted THEN one_la END FROM pair
    ), over AS (
        DELETE FROM same_child s WHERE (s.plan_id = ANY (plans) OR s.other_plan_id = ANY (plans))
        AND (s.plan_id, s.other_plan_id) NOT IN (SELECT plan_id, other_plan_id FROM side)
    ), written AS (
        INSERT INTO same_child AS s (plan_id, other_plan_id, la_code, other_la_code)
        SELECT * FROM side ORDER BY 1, 2
        ON CONFLICT (plan_id, other_plan_id) DO UPDATE SET la_code = excluded.la_code, other_la_code = excluded.other_la_code
        WHERE (s.la_code, s.other_la_code) IS DISTINCT FROM (excluded.la_code, excluded.other_la_code)
    )
    SELECT DISTINCT side.plan_id FROM side WHERE side.plan_id = ANY (plans);
END $$;
REVOKE EXECUTE ON FUNCTION publisher.look_for_same_child(uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION publisher.look_for_same_child(uuid[]) TO :role;

GRANT SELECT ON publisher.same_child TO publisher_views, :role;
CREATE OR REPLACE VIEW publisher.v_flag AS
    SELECT plan_id, code, la_code, detail, since, clock, runs_from FROM publisher.flag
    UNION ALL
    SELECT plan_id, 'not_decided', la_code, why, failing_since, NULL, NULL FROM publisher.decision_queue WHERE failures > 1
    UNION ALL
    SELECT s.plan_id, 'plan_elsewhere', s.la_code,
           coalesce(string_agg(k.name || ' (' || k.la_code || ')', ', ' ORDER BY k.la_code), 'Another council')
               || ' has a plan in force for this child too, by the NHS number or UPN. Only one is to go on: find out which, and'
               || ' transfer or end the other, or correct the number.',
           min(s.since), NULL, NULL
    FROM publisher.same_child s LEFT JOIN publisher.council k ON k.la_code = s.other_la_code GROUP BY s.plan_id, s.la_code;

-- migrate:down
CREATE OR REPLACE VIEW publisher.v_flag AS
    SELECT plan_id, code, la_code, detail, since, clock, runs_from FROM publisher.flag
    UNION ALL
    SELECT plan_id, 'not_decided', la_code, why, failing_since, NULL, NULL FROM publisher.decision_queue WHERE failures > 1;
DROP FUNCTION publisher.look_for_same_child(uuid[]);
DROP TABLE publisher.same_child;
