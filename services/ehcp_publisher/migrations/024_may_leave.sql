-- migrate:up
-- What may go to somebody: versions that were not recalled and notices that were not recalled as another child's, unless they are
-- held or were rejected. Written down once; the same in the program is Issued.may_leave.
CREATE VIEW publisher.may_leave AS
    SELECT v.version_id AS thing_id, 'version' AS kind, v.plan_id, v.la_code, v.number, v.issued_on
    FROM publisher.version v LEFT JOIN publisher.hold h ON h.thing_id = v.version_id
    WHERE v.recalled_at IS NULL AND coalesce(h.released, h.thing_id IS NULL)
    UNION ALL
    SELECT n.notice_id, 'notice', n.plan_id, n.la_code, 1, n.happened_on
    FROM publisher.notice n LEFT JOIN publisher.hold h ON h.thing_id = n.notice_id
    WHERE coalesce(h.released, h.thing_id IS NULL) AND NOT EXISTS (
        SELECT FROM publisher.recall r
        WHERE r.plan_id = n.plan_id AND r.thing_id = n.notice_id AND r.reason = 'wrong_child'
    );
GRANT CREATE ON SCHEMA publisher TO publisher_views;
ALTER VIEW publisher.may_leave OWNER TO publisher_views;
REVOKE CREATE ON SCHEMA publisher FROM publisher_views;
GRANT SELECT ON publisher.may_leave TO :role;

CREATE OR REPLACE VIEW publisher.v_plan AS
    SELECT p.plan_id, p.la_code, p.case_reference, p.state, p.restricted, p.ceases_on, p.appeal_until, p.died,
           (SELECT min(m.issued_on) FROM publisher.may_leave m WHERE m.plan_id = p.plan_id AND m.kind = 'version')
               AS first_issued_on,
           (SELECT max(m.issued_on) FROM publisher.may_leave m WHERE m.plan_id = p.plan_id AND m.kind = 'version') AS issued_on
    FROM publisher.plan p;

-- migrate:down
CREATE OR REPLACE VIEW publisher.v_plan AS
    SELECT p.plan_id, p.la_code, p.case_reference, p.state, p.restricted, p.ceases_on, p.appeal_until, p.died,
           (SELECT min(v.issued_on) FROM publisher.version v WHERE v.plan_id = p.plan_id AND v.recalled_at IS NULL
            AND NOT EXISTS (SELECT FROM publisher.hold h WHERE h.thing_id = v.version_id AND h.released IS NOT TRUE))
               AS first_issued_on,
           (SELECT max(v.issued_on) FROM publisher.version v WHERE v.plan_id = p.plan_id AND v.recalled_at IS NULL
            AND NOT EXISTS (SELECT FROM publisher.hold h WHERE h.thing_id = v.version_id AND h.released IS NOT TRUE))
               AS issued_on
    FROM publisher.plan p;
DROP VIEW publisher.may_leave;
