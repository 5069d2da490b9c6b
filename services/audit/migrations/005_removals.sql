-- migrate:up
-- What is proved to be gone after a recall. removed: the recalled versions or notices of which a receipt says so.
ALTER TABLE audit.receipt ADD removed uuid[] NOT NULL DEFAULT '{}';
-- Receipts of a subscriber that the recipient had before. They say nothing of the wish, and everything of the copy there.
CREATE TABLE audit.former_receipt (
    share_id uuid NOT NULL,
    subscriber text NOT NULL,
    number bigint NOT NULL,
    la_code text NOT NULL,
    seq bigint NOT NULL,
    status text NOT NULL,
    version_id uuid,
    removed uuid[] NOT NULL DEFAULT '{}',
    record text,
    reason text,
    at timestamptz NOT NULL,
    signed bytea NOT NULL,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (share_id, subscriber, number)
);
ALTER TABLE audit.former_receipt ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_councils ON audit.former_receipt USING (la_code = ANY (audit.my_councils()));
GRANT SELECT, INSERT ON audit.former_receipt TO :role;

-- Who fetched what, for a breach pack.
CREATE INDEX pending_read ON audit.pending (share_id) WHERE act = 'read';

-- The number of the first receipt by which this subscriber proves that these versions or notices are gone; null while none does.
-- A satisfied wish for something else proves it too: it came with the demand to remove them first. Not bound to the councils of
-- the transaction: a share that went to another council keeps its earlier receipts where they came.
CREATE FUNCTION audit.proof_of_removal(share uuid, by_subscriber text, asked bigint, things uuid[]) RETURNS bigint
    LANGUAGE sql STABLE SECURITY DEFINER SET search_path = audit, pg_temp AS $$
        SELECT min(number) FROM (
            SELECT number FROM audit.receipt r
            WHERE r.share_id = share AND r.subscriber = by_subscriber AND r.seq >= asked
            AND (r.status = 'recalled' OR things <@ r.removed OR (r.satisfies AND coalesce(r.version_id <> ALL (things), true)))
            UNION ALL
            SELECT number FROM audit.former_receipt r
            WHERE r.share_id = share AND r.subscriber = by_subscriber AND r.seq >= asked
            AND (r.status = 'recalled' OR things <@ r.removed)
        ) proofs $$;
REVOKE EXECUTE ON FUNCTION audit.proof_of_removal(uuid, text, bigint, uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.proof_of_removal(uuid, text, bigint, uuid[]) TO :role, ehcp_publisher, notifier;

-- migrate:down
DROP FUNCTION audit.proof_of_removal(uuid, text, bigint, uuid[]);
DROP INDEX audit.pending_read;
DROP TABLE audit.former_receipt;
ALTER TABLE audit.receipt DROP removed;
