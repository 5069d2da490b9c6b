-- migrate:up
-- A further officer's word that the same is to be recalled: one recall, one clock, and it runs from whoever was aware first.
CREATE TABLE publisher.recall_word (
    recall_id uuid NOT NULL REFERENCES publisher.recall,
    place integer GENERATED ALWAYS AS IDENTITY,
    plan_id uuid NOT NULL REFERENCES publisher.plan,
    la_code text NOT NULL,
    recorded_by text NOT NULL,
    aware_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (recall_id, place)
);
CREATE INDEX recall_word_of_plan ON publisher.recall_word (plan_id);
ALTER TABLE publisher.recall_word ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_councils ON publisher.recall_word USING (la_code = ANY (publisher.my_councils()));
GRANT SELECT ON publisher.recall_word TO publisher_views;
GRANT SELECT, INSERT, UPDATE ON publisher.recall_word TO :role;

CREATE OR REPLACE VIEW publisher.v_recall AS
    SELECT r.recall_id, r.plan_id, r.la_code, p.case_reference, r.thing_id, coalesce(v.number, 1) AS version, n.kind AS notice,
           r.reason, r.recorded_by, least(r.aware_at, w.aware_at) AS aware_at, r.recorded_at,
           jsonb_build_array(jsonb_build_object('by', r.recorded_by, 'aware_at', r.aware_at, 'recorded_at', r.recorded_at))
               || coalesce(w.words, '[]') AS words
    FROM publisher.recall r
    JOIN publisher.plan p USING (plan_id)
    LEFT JOIN publisher.version v ON v.version_id = r.thing_id
    LEFT JOIN publisher.notice n ON n.notice_id = r.thing_id
    CROSS JOIN LATERAL (
        SELECT min(f.aware_at) AS aware_at, jsonb_agg(
            jsonb_build_object('by', f.recorded_by, 'aware_at', f.aware_at, 'recorded_at', f.recorded_at) ORDER BY f.place
        ) AS words
        FROM publisher.recall_word f WHERE f.recall_id = r.recall_id
    ) w;
-- In the name of which council somebody was told, whichever has the plan now.
CREATE OR REPLACE VIEW publisher.v_told AS
    SELECT i.share_id, i.seq, i.la_code, i.version_id AS thing_id, coalesce(v.number, 1) AS version,
           coalesce(v.issued_on, n.happened_on) AS issued_on, n.kind AS notice, i.requested_at,
           said.sha256, said.sections, said.recipient, EXISTS (
               SELECT FROM publisher.rendering g WHERE coalesce(g.version_id, g.notice_id) = i.version_id
               AND g.sha256 = said.sha256 AND g.sections = '*'
           ) AS whole, coalesce(said.la_code, i.la_code) AS told_by
    FROM publisher.instruction i
    CROSS JOIN jsonb_to_record(convert_from(i.data, 'UTF8')::jsonb)
        AS said (sha256 text, sections jsonb, recipient jsonb, la_code text)
    LEFT JOIN publisher.version v ON v.version_id = i.version_id
    LEFT JOIN publisher.notice n ON n.notice_id = i.version_id
    WHERE i.type = 'ehcp.share.requested.v1';
CREATE VIEW publisher.v_custody AS SELECT plan_id, la_code, case_reference, from_date, until_date, place FROM publisher.custody;
GRANT CREATE ON SCHEMA publisher TO publisher_views;
ALTER VIEW publisher.v_custody OWNER TO publisher_views;
REVOKE CREATE ON SCHEMA publisher FROM publisher_views;
GRANT SELECT ON publisher.v_custody TO audit;

-- migrate:down
SELECT 1 / 0; -- who said what of a recall cannot be taken back
