-- migrate:up
-- The whole life of a plan: its state, what happened to it, reviews and notices, who has had it when, and what people decided.
ALTER TABLE publisher.child
    ADD name_lookup bytea,
    -- False once its plan has ended: the child may then get a new plan, and an adopted one is not found by who it was.
    ADD findable boolean NOT NULL DEFAULT true;
CREATE UNIQUE INDEX child_nhs_once ON publisher.child (la_code, nhs_lookup) WHERE findable;
CREATE UNIQUE INDEX child_upn_once ON publisher.child (la_code, upn_lookup) WHERE findable;
CREATE INDEX child_name ON publisher.child (la_code, name_lookup) WHERE findable;
DROP INDEX publisher.child_nhs;
DROP INDEX publisher.child_upn;

ALTER TABLE publisher.plan
    ADD state text NOT NULL DEFAULT 'live' CHECK (state IN ('live', 'ceasing', 'ceased', 'transferred')),
    -- Rises with everything that happens to the plan: what was prepared for another revision is prepared anew.
    ADD revision integer NOT NULL DEFAULT 1,
    ADD identity_revision integer NOT NULL DEFAULT 1,
    -- Sealed. NULL: those of the current version.
    ADD circumstances bytea,
    ADD restricted text,
    ADD ceases_on date,
    ADD appeal_until date,
    ADD cease_reason text,
    ADD died boolean NOT NULL DEFAULT false,
    -- The next day on which the wish may change by the date alone: a placement begins or ends, rights pass.
    ADD decide_on date,
    -- The organisations that the circumstances name, as scheme:value: so a change of the directory finds its plans.
    ADD parties text[] NOT NULL DEFAULT '{}';
CREATE INDEX plan_decide_on ON publisher.plan (decide_on) WHERE decide_on IS NOT NULL;
CREATE INDEX plan_council ON publisher.plan (la_code, plan_id);

CREATE FUNCTION publisher.allowed_states() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.state, NEW.state) NOT IN (
        ('live', 'ceasing'), ('live', 'ceased'), ('live', 'transferred'), ('ceasing', 'live'), ('ceasing', 'ceased'),
        ('ceasing', 'transferred'), ('ceased', 'live')
    ) THEN
        RAISE EXCEPTION 'a plan does not go from % to % (plan %)', OLD.state, NEW.state, OLD.plan_id;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER plan_state BEFORE UPDATE OF state ON publisher.plan FOR EACH ROW WHEN (OLD.state <> NEW.state)
    EXECUTE FUNCTION publisher.allowed_states();

ALTER TABLE publisher.version ADD recalled_at timestamptz;

-- Who may act for the plan, and since when: la_code of the plan is the open one.
CREATE TABLE publisher.custody (
    plan_id uuid NOT NULL REFERENCES publisher.plan,
    la_code text NOT NULL REFERENCES publisher.council,
    case_reference text NOT NULL,
    from_date date NOT NULL,
    until_date date NOT NULL,
    PRIMARY KEY (plan_id, until_date)
);
CREATE TABLE publisher.plan_event (
    plan_id uuid NOT NULL REFERENCES publisher.plan,
    revision integer NOT NULL,
    la_code text NOT NULL,
    type text NOT NULL,
    -- Events about the same thing, such as one review: a repeat of the last of them changes nothing.
    about text NOT NULL,
    by text NOT NULL,
    happened_on date NOT NULL,
    hash bytea NOT NULL,
    data bytea NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (plan_id, revision)
);
CREATE TABLE publisher.review (
    plan_id uuid NOT NULL REFERENCES publisher.plan,
    review text NOT NULL,
    la_code text NOT NULL,
    meeting_on date,
    invited_on date,
    held_on date,
    reported_on date,
    decision text CHECK (decision IN ('maintain', 'amend', 'cease')),
    decided_on date,
    PRIMARY KEY (plan_id, review)
);
CREATE TABLE publisher.notice (
    notice_id uuid PRIMARY KEY,
    plan_id uuid NOT NULL REFERENCES publisher.plan,
    la_code text NOT NULL,
    kind text NOT NULL,
    happened_on date NOT NULL,
    body bytea NOT NULL
);
CREATE INDEX notice_of_plan ON publisher.notice (plan_id);

-- A rendering is of a version or of a notice; when the child's details change, what was typeset here is typeset again.
ALTER TABLE publisher.rendering
    ALTER COLUMN version_id DROP NOT NULL,
    ADD notice_id uuid UNIQUE REFERENCES publisher.notice,
    ADD identity_revision integer NOT NULL DEFAULT 1,
    ADD typeset boolean NOT NULL DEFAULT false,
    DROP CONSTRAINT rendering_version_id_sections_key,
    ADD UNIQUE (version_id, sections, identity_revision),
    ADD CHECK ((version_id IS NULL) <> (notice_id IS NULL));
-- Attachments belong to a version or to a notice, whose ids never meet.
ALTER TABLE publisher.attachment DROP CONSTRAINT attachment_version_id_fkey;
ALTER TABLE publisher.attachment RENAME COLUMN version_id TO owner_id;

ALTER TABLE publisher.share
    ALTER COLUMN version_id DROP NOT NULL,
    ADD notice_id uuid REFERENCES publisher.notice,
    ADD identity_revision integer NOT NULL DEFAULT 1,
    -- Versions that must go, until their removal is proved.
    ADD removing uuid[] NOT NULL DEFAULT '{}',
    DROP CONSTRAINT share_action_check,
    ADD CHECK (action IN ('hold', 'withdraw', 'recall')),
    DROP CONSTRAINT share_plan_id_recipient_id_key,
    ADD CHECK ((version_id IS NULL) <> (notice_id IS NULL));
CREATE UNIQUE INDEX share_of_plan ON publisher.share (plan_id, recipient_id) WHERE notice_id IS NULL;
CREATE UNIQUE INDEX share_of_notice ON publisher.share (notice_id, recipient_id) WHERE notice_id IS NOT NULL;
CREATE OR REPLACE FUNCTION publisher.seq_only_rises() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.seq < OLD.seq OR (NEW.seq = OLD.seq AND
        (NEW.version_id, NEW.notice_id, NEW.rendering_id, NEW.action, NEW.subscriber, NEW.removing, NEW.identity_revision)
        IS DISTINCT FROM
        (OLD.version_id, OLD.notice_id, OLD.rendering_id, OLD.action, OLD.subscriber, OLD.removing, OLD.identity_revision)) THEN
        RAISE EXCEPTION 'a changed wish needs a higher seq (share %)', OLD.share_id;
    END IF;
    RETURN NEW;
END $$;

-- What people decided about one recipient of one plan: to share, or not to.
CREATE TABLE publisher.decision (
    plan_id uuid NOT NULL REFERENCES publisher.plan,
    recipient_id uuid NOT NULL,
    la_code text NOT NULL,
    share boolean NOT NULL,
    scheme text,
    value text,
    lawful_basis text NOT NULL,
    reason text NOT NULL,
    by text NOT NULL,
    until_date date,
    decided_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (plan_id, recipient_id)
);
CREATE TABLE publisher.confirmation (
    plan_id uuid NOT NULL REFERENCES publisher.plan,
    recipient_id uuid NOT NULL,
    la_code text NOT NULL,
    kind text NOT NULL,
    name text NOT NULL,
    reason text NOT NULL,
    asked_by text NOT NULL,
    asked_at timestamptz NOT NULL DEFAULT now(),
    decided_by text CHECK (decided_by <> asked_by),
    share boolean,
    decided_at timestamptz,
    PRIMARY KEY (plan_id, recipient_id)
);
-- Somebody involved in the plan who has no share. who: kind, role and code or profession, never a person's name.
CREATE TABLE publisher.share_gap (
    plan_id uuid NOT NULL REFERENCES publisher.plan,
    who text NOT NULL,
    la_code text NOT NULL,
    reason text NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (plan_id, who)
);
CREATE TABLE publisher.flag (
    plan_id uuid NOT NULL REFERENCES publisher.plan,
    code text NOT NULL,
    la_code text NOT NULL,
    detail text NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (plan_id, code)
);
-- Plans whose shares are to be decided again.
CREATE TABLE publisher.decision_queue (
    plan_id uuid PRIMARY KEY REFERENCES publisher.plan,
    la_code text NOT NULL,
    reason text NOT NULL,
    queued_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX decision_queue_order ON publisher.decision_queue (queued_at);

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['custody', 'plan_event', 'review', 'notice', 'decision', 'confirmation', 'share_gap', 'flag',
                             'decision_queue'] LOOP
        EXECUTE format('ALTER TABLE publisher.%I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY own_councils ON publisher.%I USING (la_code = ANY (publisher.my_councils()))', t);
    END LOOP;
END $$;
-- Whoever may act for the plan sees where it was before.
DROP POLICY own_councils ON publisher.custody;
CREATE POLICY own_councils ON publisher.custody USING (
    la_code = ANY (publisher.my_councils())
    OR EXISTS (SELECT FROM publisher.plan p WHERE p.plan_id = custody.plan_id)
);
GRANT SELECT ON ALL TABLES IN SCHEMA publisher TO publisher_views;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA publisher TO :role;

CREATE OR REPLACE VIEW publisher.v_share AS
    SELECT s.share_id, s.la_code, s.plan_id, p.case_reference, s.recipient_id, r.kind AS recipient_kind,
           r.name AS recipient_name, s.subscriber, sub.hosted_by, r.channel, s.seq, s.action,
           coalesce(s.version_id, s.notice_id) AS version_id, coalesce(v.number, 1) AS version,
           coalesce(v.issued_on, n.happened_on) AS issued_on, i.requested_at, i.due_at, g.sha256, n.kind AS notice,
           p.died AND r.kind IN ('parent', 'young_person') AS silent
    FROM publisher.share s
    JOIN publisher.plan p USING (plan_id)
    JOIN publisher.recipient r USING (recipient_id)
    LEFT JOIN publisher.version v ON v.version_id = s.version_id
    LEFT JOIN publisher.notice n ON n.notice_id = s.notice_id
    JOIN publisher.rendering g ON g.rendering_id = s.rendering_id
    JOIN publisher.instruction i ON i.share_id = s.share_id AND i.seq = s.seq
    LEFT JOIN publisher.subscriber sub ON sub.subscriber = s.subscriber;
CREATE OR REPLACE VIEW publisher.v_plan AS
    SELECT p.plan_id, p.la_code, p.case_reference, p.state, p.restricted, p.ceases_on, p.appeal_until, p.died,
           (SELECT min(v.issued_on) FROM publisher.version v WHERE v.plan_id = p.plan_id AND v.recalled_at IS NULL)
               AS first_issued_on,
           (SELECT max(v.issued_on) FROM publisher.version v WHERE v.plan_id = p.plan_id AND v.recalled_at IS NULL)
               AS issued_on
    FROM publisher.plan p;
CREATE VIEW publisher.v_review AS
    SELECT plan_id, review, la_code, meeting_on, invited_on, held_on, reported_on, decision, decided_on FROM publisher.review;
CREATE VIEW publisher.v_gap AS SELECT plan_id, who, la_code, reason, since FROM publisher.share_gap;
CREATE VIEW publisher.v_flag AS SELECT plan_id, code, la_code, detail, since FROM publisher.flag;
CREATE VIEW publisher.v_confirmation AS
    SELECT plan_id, recipient_id, la_code, kind, name, reason, asked_at FROM publisher.confirmation WHERE decided_at IS NULL;
CREATE VIEW publisher.v_event AS
    SELECT plan_id, revision, la_code, type, happened_on, recorded_at FROM publisher.plan_event;
GRANT CREATE ON SCHEMA publisher TO publisher_views;
ALTER VIEW publisher.v_review OWNER TO publisher_views;
ALTER VIEW publisher.v_gap OWNER TO publisher_views;
ALTER VIEW publisher.v_flag OWNER TO publisher_views;
ALTER VIEW publisher.v_confirmation OWNER TO publisher_views;
ALTER VIEW publisher.v_event OWNER TO publisher_views;
REVOKE CREATE ON SCHEMA publisher FROM publisher_views;
GRANT SELECT ON publisher.v_review, publisher.v_gap, publisher.v_flag, publisher.v_confirmation, publisher.v_event
    TO audit, notifier;

-- migrate:down
SELECT 1 / 0; -- what happened to plans cannot be taken back
