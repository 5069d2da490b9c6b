-- migrate:up
-- Every key that a subscriber has signed receipts with, and when it held: a receipt is verified long after its key was replaced.
CREATE TABLE publisher.receipt_key (
    subscriber text NOT NULL REFERENCES publisher.subscriber,
    place integer GENERATED ALWAYS AS IDENTITY,
    key jsonb NOT NULL,
    -- Null where it was there before this was kept.
    valid_from timestamptz,
    valid_until timestamptz,
    PRIMARY KEY (subscriber, place)
);
CREATE UNIQUE INDEX receipt_key_in_force ON publisher.receipt_key (subscriber) WHERE valid_until IS NULL;
INSERT INTO publisher.receipt_key (subscriber, key) SELECT subscriber, receipt_key FROM publisher.subscriber ORDER BY subscriber;

-- Whoever changes the directory, and however: with the owner's rights, so that no service can write this history itself.
CREATE FUNCTION publisher.keep_receipt_key() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = publisher, pg_temp
AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.receipt_key = OLD.receipt_key THEN
        RETURN NULL;
    END IF;
    UPDATE publisher.receipt_key SET valid_until = now()
        WHERE subscriber = NEW.subscriber AND valid_until IS NULL;
    INSERT INTO publisher.receipt_key (subscriber, key, valid_from) VALUES (NEW.subscriber, NEW.receipt_key, now());
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION publisher.keep_receipt_key() FROM PUBLIC;
CREATE TRIGGER keep_receipt_key AFTER INSERT OR UPDATE OF receipt_key ON publisher.subscriber
    FOR EACH ROW EXECUTE FUNCTION publisher.keep_receipt_key();
GRANT SELECT ON publisher.receipt_key TO publisher_views;

CREATE VIEW publisher.v_receipt_key AS
    SELECT subscriber, place, key, valid_from, valid_until FROM publisher.receipt_key;
GRANT CREATE ON SCHEMA publisher TO publisher_views;
ALTER VIEW publisher.v_receipt_key OWNER TO publisher_views;
REVOKE CREATE ON SCHEMA publisher FROM publisher_views;
GRANT SELECT ON publisher.v_receipt_key TO audit;

-- migrate:down
DROP VIEW publisher.v_receipt_key;
DROP TRIGGER keep_receipt_key ON publisher.subscriber;
DROP FUNCTION publisher.keep_receipt_key();
DROP TABLE publisher.receipt_key;
