-- migrate:up
-- Which councils a subscriber delivers for, so that its silence is told to them and to nobody else; and since when it is known,
-- for one that was never heard of.
ALTER TABLE publisher.subscriber ADD registered_at timestamptz NOT NULL DEFAULT now();
CREATE INDEX share_served ON publisher.share (subscriber, la_code) WHERE action = 'hold';
CREATE OR REPLACE VIEW publisher.v_subscriber AS
    SELECT subscriber, name, hosted_by, receipt_key, registered_at FROM publisher.subscriber;
CREATE VIEW publisher.v_served AS
    SELECT s.subscriber, c.la_code FROM publisher.subscriber s CROSS JOIN publisher.council c
    WHERE (SELECT true FROM publisher.share h WHERE h.subscriber = s.subscriber AND h.la_code = c.la_code AND h.action = 'hold'
           LIMIT 1);
GRANT CREATE ON SCHEMA publisher TO publisher_views;
ALTER VIEW publisher.v_served OWNER TO publisher_views;
REVOKE CREATE ON SCHEMA publisher FROM publisher_views;
GRANT SELECT ON publisher.v_served TO notifier;

-- migrate:down
DROP VIEW publisher.v_served;
DROP VIEW publisher.v_subscriber;
CREATE VIEW publisher.v_subscriber AS SELECT subscriber, name, hosted_by, receipt_key FROM publisher.subscriber;
ALTER VIEW publisher.v_subscriber OWNER TO publisher_views;
GRANT SELECT ON publisher.v_subscriber TO audit, notifier;
DROP INDEX publisher.share_served;
ALTER TABLE publisher.subscriber DROP registered_at;
