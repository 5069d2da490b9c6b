-- migrate:up
-- A recall, and every copy that must go for it: by share and by subscriber, since one that a recipient had before may have a
-- copy too. What became of a copy, receipts say; so nothing here is changed later.
CREATE TABLE publisher.recall (
    recall_id uuid PRIMARY KEY,
    plan_id uuid NOT NULL REFERENCES publisher.plan,
    la_code text NOT NULL,
    -- The version, or the notice.
    thing_id uuid NOT NULL,
    reason text NOT NULL,
    recorded_by text NOT NULL,
    aware_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX recall_of_plan ON publisher.recall (plan_id);
CREATE TABLE publisher.recalled_copy (
    recall_id uuid NOT NULL REFERENCES publisher.recall,
    share_id uuid NOT NULL REFERENCES publisher.share,
    subscriber text NOT NULL,
    la_code text NOT NULL,
    -- Of the instruction that first asked for the removal.
    seq bigint NOT NULL,
    things uuid[] NOT NULL,
    asked_at timestamptz NOT NULL,
    due_at timestamptz NOT NULL,
    PRIMARY KEY (recall_id, share_id, subscriber)
);
CREATE INDEX recalled_copy_of_share ON publisher.recalled_copy (share_id);

-- What a former subscriber was told last: to let go, or to remove.
ALTER TABLE publisher.handover ADD type text NOT NULL DEFAULT 'ehcp.share.released.v1';
CREATE INDEX handover_recalled ON publisher.handover (subscriber, share_id) WHERE type = 'ehcp.share.recalled.v1';

ALTER TABLE publisher.recall ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_councils ON publisher.recall USING (la_code = ANY (publisher.my_councils()));
ALTER TABLE publisher.recalled_copy ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_councils ON publisher.recalled_copy USING (la_code = ANY (publisher.my_councils()));
GRANT SELECT ON publisher.recall, publisher.recalled_copy TO publisher_views;
GRANT SELECT, INSERT, UPDATE ON publisher.recall, publisher.recalled_copy TO :role;

CREATE VIEW publisher.v_recall AS
    SELECT r.recall_id, r.plan_id, r.la_code, p.case_reference, r.thing_id, coalesce(v.number, 1) AS version, n.kind AS notice,
           r.reason, r.recorded_by, r.aware_at, r.recorded_at
    FROM publisher.recall r
    JOIN publisher.plan p USING (plan_id)
    LEFT JOIN publisher.version v ON v.version_id = r.thing_id
    LEFT JOIN publisher.notice n ON n.notice_id = r.thing_id;
CREATE VIEW publisher.v_recalled_copy AS
    SELECT recall_id, share_id, subscriber, la_code, seq, things, asked_at, due_at FROM publisher.recalled_copy;
-- What a share was ever told to hold: of a version or a notice, in which rendering; whole where no section was left out.
CREATE VIEW publisher.v_told AS
    SELECT i.share_id, i.seq, i.la_code, i.version_id AS thing_id, coalesce(v.number, 1) AS version,
           coalesce(v.issued_on, n.happened_on) AS issued_on, n.kind AS notice, i.requested_at,
           said.sha256, said.sections, said.recipient, EXISTS (
               SELECT FROM publisher.rendering g WHERE coalesce(g.version_id, g.notice_id) = i.version_id
               AND g.sha256 = said.sha256 AND g.sections = '*'
           ) AS whole
    FROM publisher.instruction i
    CROSS JOIN jsonb_to_record(convert_from(i.data, 'UTF8')::jsonb) AS said (sha256 text, sections jsonb, recipient jsonb)
    LEFT JOIN publisher.version v ON v.version_id = i.version_id
    LEFT JOIN publisher.notice n ON n.notice_id = i.version_id
    WHERE i.type = 'ehcp.share.requested.v1';
GRANT CREATE ON SCHEMA publisher TO publisher_views;
ALTER VIEW publisher.v_recall OWNER TO publisher_views;
ALTER VIEW publisher.v_recalled_copy OWNER TO publisher_views;
ALTER VIEW publisher.v_told OWNER TO publisher_views;
REVOKE CREATE ON SCHEMA publisher FROM publisher_views;
GRANT SELECT ON publisher.v_recall, publisher.v_recalled_copy TO audit, notifier;
GRANT SELECT ON publisher.v_told TO audit;

-- migrate:down
SELECT 1 / 0; -- what was recalled, and from whom, cannot be taken back
