-- migrate:up
-- An organisation that neither the law nor the policy names is confirmed when a council shares with it for the first time, once
-- for all plans. Every plan that waits has its row; the question is put once, with the first of them.
ALTER TABLE publisher.confirmation ADD once boolean NOT NULL DEFAULT false;
CREATE INDEX confirmation_open ON publisher.confirmation (la_code, recipient_id, plan_id) WHERE decided_at IS NULL;
CREATE TABLE publisher.familiar (
    la_code text NOT NULL REFERENCES publisher.council,
    recipient_id uuid NOT NULL REFERENCES publisher.recipient,
    -- Of the directory: whoever decides reads what is new to it.
    revision bigint NOT NULL,
    -- The officer who confirmed it; NULL where the council shared with it before there was this question.
    by text,
    since timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (la_code, recipient_id)
);
INSERT INTO publisher.familiar (la_code, recipient_id, revision)
    SELECT DISTINCT s.la_code, s.recipient_id, d.revision
    FROM publisher.share s JOIN publisher.recipient r USING (recipient_id)
    JOIN publisher.share_ground g USING (share_id) CROSS JOIN publisher.directory_revision d
    WHERE r.plan_id IS NULL AND s.notice_id IS NULL AND s.action = 'hold' AND g.grounds <> 'statutory';
GRANT SELECT ON publisher.familiar TO publisher_views;
GRANT SELECT, INSERT ON publisher.familiar TO :role;
CREATE OR REPLACE VIEW publisher.v_confirmation AS
    SELECT plan_id, recipient_id, la_code, kind, name, reason, asked_at FROM publisher.confirmation c
    WHERE decided_at IS NULL AND NOT (once AND EXISTS (
        SELECT FROM publisher.confirmation e
        WHERE e.la_code = c.la_code AND e.recipient_id = c.recipient_id AND e.once AND e.decided_at IS NULL
        AND e.plan_id < c.plan_id
    ));

-- migrate:down
SELECT 1 / 0; -- what people confirmed cannot be taken back
