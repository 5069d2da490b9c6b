-- migrate:up
-- The council asks what the records really hold: whose plans, by whom, and the wish for each share as it was when it was asked.
-- ask_at is when an unanswered share is asked for again; asked_at when it last was. No identifier of a child is here.
CREATE TABLE publisher.look (
    look_id uuid PRIMARY KEY,
    la_code text NOT NULL REFERENCES publisher.council,
    asked_by text NOT NULL,
    asked_at timestamptz NOT NULL DEFAULT now(),
    until timestamptz NOT NULL,
    -- The seed, how many, out of how many, and which of a choice led to no plan.
    asked jsonb NOT NULL
);
CREATE TABLE publisher.look_plan (
    look_id uuid NOT NULL REFERENCES publisher.look,
    plan_id uuid NOT NULL REFERENCES publisher.plan,
    la_code text NOT NULL,
    position integer NOT NULL,
    version_id uuid NOT NULL,
    PRIMARY KEY (look_id, plan_id)
);
CREATE TABLE publisher.look_share (
    look_id uuid NOT NULL REFERENCES publisher.look,
    share_id uuid NOT NULL REFERENCES publisher.share,
    la_code text NOT NULL,
    plan_id uuid NOT NULL,
    subscriber text,
    seq bigint NOT NULL,
    version_id uuid NOT NULL,
    sha256 text NOT NULL,
    asks integer NOT NULL DEFAULT 1,
    asked_at timestamptz NOT NULL DEFAULT now(),
    ask_at timestamptz,
    PRIMARY KEY (look_id, share_id)
);
CREATE INDEX look_share_ask ON publisher.look_share (ask_at) WHERE ask_at IS NOT NULL;
CREATE INDEX look_share_of ON publisher.look_share (subscriber, share_id) WHERE ask_at IS NOT NULL;
DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['look', 'look_plan', 'look_share'] LOOP
        EXECUTE format('ALTER TABLE publisher.%I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY own_councils ON publisher.%I USING (la_code = ANY (publisher.my_councils()))', t);
    END LOOP;
END $$;
GRANT SELECT ON publisher.look, publisher.look_plan, publisher.look_share TO publisher_views;
GRANT SELECT, INSERT, UPDATE ON publisher.look, publisher.look_plan, publisher.look_share TO :role;

CREATE VIEW publisher.v_look AS SELECT look_id, la_code, asked_by, asked_at, until, asked FROM publisher.look;
CREATE VIEW publisher.v_look_plan AS
    SELECT l.look_id, l.plan_id, l.la_code, l.position, p.case_reference, l.version_id, v.number AS version, v.issued_on
    FROM publisher.look_plan l JOIN publisher.plan p USING (plan_id) JOIN publisher.version v ON v.version_id = l.version_id;
CREATE VIEW publisher.v_look_share AS
    SELECT l.look_id, l.share_id, l.la_code, l.plan_id, l.subscriber, l.seq, l.version_id, l.sha256, l.asks, r.recipient_id,
           r.kind AS recipient_kind, r.name AS recipient_name, r.plan_id IS NOT NULL AS person, r.channel,
           ARRAY(SELECT DISTINCT g.grounds FROM publisher.share_ground g WHERE g.share_id = l.share_id ORDER BY 1) AS grounds
    FROM publisher.look_share l JOIN publisher.share s USING (share_id)
    JOIN publisher.recipient r ON r.recipient_id = s.recipient_id;
GRANT CREATE ON SCHEMA publisher TO publisher_views;
ALTER VIEW publisher.v_look OWNER TO publisher_views;
ALTER VIEW publisher.v_look_plan OWNER TO publisher_views;
ALTER VIEW publisher.v_look_share OWNER TO publisher_views;
REVOKE CREATE ON SCHEMA publisher FROM publisher_views;
GRANT SELECT ON publisher.v_look, publisher.v_look_plan, publisher.v_look_share TO audit;

-- migrate:down
DROP VIEW publisher.v_look_share;
DROP VIEW publisher.v_look_plan;
DROP VIEW publisher.v_look;
DROP TABLE publisher.look_share;
DROP TABLE publisher.look_plan;
DROP TABLE publisher.look;
