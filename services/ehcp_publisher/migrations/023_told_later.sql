-- migrate:up
-- Whom the law has told by this notice, and who waited for a second person's confirmation when it went out: told once they are
-- confirmed, if it still says something to them.
ALTER TABLE publisher.notice ADD waiting uuid[] NOT NULL DEFAULT '{}';
CREATE INDEX notice_waiting ON publisher.notice (plan_id) WHERE waiting <> '{}';

-- migrate:down
DROP INDEX publisher.notice_waiting;
ALTER TABLE publisher.notice DROP waiting;
